//! What verbs that show things share: tables, colours, screens.

use std::{
    io::{self, IsTerminal as _, Write as _},
    thread::sleep,
    time::Duration,
};

use anyhow::Result;
use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets};

/// A table without lines: numbers to the right, colours on a terminal alone.
pub(super) struct Columns {
    table: Table,
    numbers: &'static [usize],
}

impl Columns {
    /// With these titles; the columns in `numbers` hold numbers.
    pub(super) fn new(titles: &[&str], numbers: &'static [usize]) -> Self {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        if !io::stdout().is_terminal() {
            table.force_no_tty();
        }
        let mut columns = Self { table, numbers };
        let titles = titles
            .iter()
            .map(|title| Cell::new(title).fg(Color::DarkGrey));
        let titles = columns.aligned(titles.collect());
        columns.table.set_header(titles);
        columns
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        let cells = self.aligned(cells);
        self.table.add_row(cells);
    }

    fn aligned(&self, cells: Vec<Cell>) -> Vec<Cell> {
        let cells = cells.into_iter().enumerate();
        let cells = cells.map(|(column, cell)| {
            if self.numbers.contains(&column) {
                cell.set_alignment(CellAlignment::Right)
            } else {
                cell
            }
        });
        cells.collect()
    }

    /// The text, without blanks at the ends of lines.
    pub(super) fn text(mut self) -> String {
        let columns = self.table.column_count();
        for column in 0..columns {
            if let Some(column) = self.table.column_mut(column) {
                column.set_padding((0, 2));
            }
        }
        let lines = self
            .table
            .lines()
            .map(|line| line.trim_end().to_owned() + "\n");
        lines.collect()
    }
}

/// Between two pictures of `--watch`.
const PERIOD: Duration = Duration::from_secs(1);

/// Shows a picture; with `--watch`, again every second until it is interrupted.
///
/// # Errors
/// What `picture` fails with.
pub(super) fn show_or_watch(
    watch: bool,
    mut picture: impl FnMut() -> Result<String>,
) -> Result<()> {
    if !watch {
        show(&picture()?);
        return Ok(());
    }
    loop {
        redraw(&picture()?);
        sleep(PERIOD);
    }
}

/// A number with a unit: `999`, `1.2 K`, `34 M`.
pub(super) fn short(number: u64) -> String {
    let mut value = number as f64;
    let units = ["", " K", " M", " G", " T", " P", " E"];
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        number.to_string()
    } else if value < 9.95 {
        format!("{value:.1}{}", units[unit])
    } else {
        format!("{value:.0}{}", units[unit])
    }
}

/// Bytes of memory, in binary units.
pub(super) fn memory(bytes: u64) -> String {
    let mut value = bytes as f64;
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

/// To standard output; a closed pipe is nobody's fault, and ends the program.
pub(super) fn show(text: &str) {
    let mut out = io::stdout().lock();
    if out
        .write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_err()
    {
        std::process::exit(0);
    }
}

/// Shows a text in place of the last one: on a terminal the screen is
/// overwritten, elsewhere texts follow one another.
pub(super) fn redraw(text: &str) {
    if io::stdout().is_terminal() {
        // Each line is cleared to its end, and what is below the last.
        let text = text.replace('\n', "\x1b[K\n");
        show(&format!("\x1b[H{text}\x1b[J"));
    } else {
        show(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (number, want) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.0 K"),
            (9_949, "9.9 K"),
            (9_950, "10 K"),
            (999_499, "999 K"),
            (999_500, "1.0 M"),
            (u64::MAX, "18 E"),
        ] {
            assert_eq!(short(number), want);
        }
        assert_eq!(memory(1023), "1023 B");
        assert_eq!(memory(3 << 20), "3.0 MiB");
    }
}
