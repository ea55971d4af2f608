//! The figures as plots.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::{
    prelude::{
        ChartBuilder, Circle, Color, IntoDrawingArea, IntoLogRange, PathElement, RGBColor,
        SVGBackend, SeriesLabelPosition, WHITE,
    },
    series::LineSeries,
    style::ShapeStyle,
};

use super::measure::{Net, Point, Row};

const SIZE: (u32, u32) = (860, 480);
/// Told apart without red next to green.
const COLOURS: [RGBColor; 8] = [
    RGBColor(120, 120, 120),
    RGBColor(190, 190, 190),
    RGBColor(0, 90, 181),
    RGBColor(220, 50, 32),
    RGBColor(230, 159, 0),
    RGBColor(117, 52, 155),
    RGBColor(0, 158, 115),
    RGBColor(86, 180, 233),
];

/// Nanoseconds by flows, from figures of one flow or more.
type Line = Vec<(f64, f64)>;

/// Draws what an established connection's packet costs, over the number of flows:
/// the floors as measured with the first row, and every row that has more than one
/// column.
///
/// # Errors
/// When the file cannot be written, or nothing was measured with several numbers of
/// flows.
pub(super) fn draw(rows: &[Row], file: &Path) -> Result<()> {
    let shown: Vec<&Row> = rows
        .iter()
        .filter(|row| row.points.len() > 1)
        .take(COLOURS.len() - 2)
        .collect();
    let first = shown
        .first()
        .context("a plot needs several numbers of flows")?;
    let line = |row: &Row, figure: fn(&Point) -> Net| -> Line {
        let points = row.points.iter();
        points
            // A logarithm wants what is above nothing.
            .map(|point| (f64::from(point.flows), figure(point).least.max(1.0)))
            .collect()
    };
    let mut lines = vec![
        ("F1: the floor".to_owned(), line(first, |point| point.floor)),
        (
            "F2: with a BPF hash".to_owned(),
            line(first, |point| point.hash_floor),
        ),
    ];
    lines.extend(
        shown
            .iter()
            .map(|row| (row.name.clone(), line(row, |point| point.lvx))),
    );
    plot(&lines, file)
        .map_err(|error| anyhow!("{error}"))
        .with_context(|| format!("cannot draw {}", file.display()))
}

fn plot(lines: &[(String, Line)], file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let all = || lines.iter().flat_map(|(_, line)| line);
    let flows = all().fold(1.0, |most, point| point.0.max(most));
    let nanoseconds = all().fold(10.0, |most, point| point.1.max(most));
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(
            (1.0..flows).log_scale(),
            (1.0..nanoseconds * 1.5).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc("connections that the packets are spread over")
        .y_desc("nanoseconds a packet, net")
        .x_label_formatter(&|flows| format!("{flows:.0}"))
        .y_label_formatter(&|nanoseconds| format!("{nanoseconds:.0}"))
        .light_line_style(ShapeStyle::from(&WHITE))
        .draw()?;
    for ((name, line), colour) in lines.iter().zip(COLOURS) {
        chart
            .draw_series(LineSeries::new(line.clone(), colour.stroke_width(2)))?
            .label(name.as_str())
            .legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 20, y)], colour.stroke_width(2))
            });
        chart.draw_series(
            line.iter()
                .map(|&point| Circle::new(point, 3, colour.filled())),
        )?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_a_line_for_each_path() {
        let point = |flows, nanoseconds| Point {
            flows,
            lvx: Net {
                least: nanoseconds,
                median: nanoseconds,
            },
            tx: Net::default(),
            floor: Net::default(),
            hash_floor: Net::default(),
            line: Net::default(),
            empty: 0.0,
        };
        let row = |name: &str, points| Row {
            name: name.to_owned(),
            points,
        };
        let rows = [
            row("DR", vec![point(1, 30.0), point(1 << 20, 250.0)]),
            row("new, rr", vec![point(1 << 20, 500.0)]),
        ];
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("cost.svg");
        draw(&rows, &file).unwrap();
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.contains("DR") && text.contains("F1: the floor"));
        assert!(!text.contains("new, rr"));
        assert!(text.matches("<polyline").count() > 2);
        let alone = [row("new, rr", vec![point(1, 1.0)])];
        assert!(draw(&alone, &directory.path().join("none.svg")).is_err());
    }
}
