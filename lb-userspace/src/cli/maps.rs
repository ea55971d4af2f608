//! `lvx maps`: entries, room and memory of each map.

use anyhow::Result;
use clap::Args as ClapArgs;
use comfy_table::{Cell, Color};

use super::{
    terminal::{Columns, memory, show},
    unexpected,
};
use crate::{
    daemon::client::Client,
    model::{MapUsage, Request, Response},
};

/// Fill in percent from which a map is shown in another colour.
const FULL: u64 = 75;

/// Arguments of `lvx maps`.
#[derive(ClapArgs)]
pub(super) struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &Args) -> Result<()> {
    let maps = match Client::default().request(&Request::Maps)? {
        Response::Maps(maps) => maps,
        other => return Err(unexpected(&other)),
    };
    show(&if args.json {
        format!("{}\n", serde_json::to_string_pretty(&maps)?)
    } else {
        text(&maps)
    });
    Ok(())
}

fn text(maps: &[MapUsage]) -> String {
    let titles = ["MAP", "ENTRIES", "CAPACITY", "FILL", "MEMORY", "HOLDS"];
    let mut table = Columns::new(&titles, &[1, 2, 3, 4]);
    for map in maps {
        let percent = map.used.map(|used| used * 100 / map.capacity.max(1));
        let fill = Cell::new(percent.map_or("-".into(), |percent| format!("{percent} %")));
        table.row(vec![
            Cell::new(&map.name),
            Cell::new(map.used.map_or("-".into(), |used| used.to_string())),
            Cell::new(map.capacity),
            if percent.is_some_and(|percent| percent >= FULL) {
                fill.fg(Color::Yellow)
            } else {
                fill
            },
            Cell::new(memory(map.bytes)),
            Cell::new(&map.holds),
        ]);
    }
    let total = maps.iter().map(|map| map.bytes).sum();
    let mut cells = vec![Cell::new("all")];
    cells.resize_with(4, || Cell::new(""));
    cells.push(Cell::new(memory(total)));
    table.row(cells);
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_listed() {
        let map = |name: &str, used, capacity, bytes| MapUsage {
            name: name.into(),
            holds: "things".into(),
            used,
            capacity,
            bytes,
        };
        let maps = [
            map("FLOW4", Some(30), 40, 3 << 20),
            map("ROOT", None, 1, 4096),
        ];
        assert_eq!(
            text(&maps),
            "\
MAP    ENTRIES  CAPACITY  FILL   MEMORY  HOLDS
FLOW4       30        40  75 %  3.0 MiB  things
ROOT         -         1     -  4.0 KiB  things
all                             3.0 MiB
"
        );
    }
}
