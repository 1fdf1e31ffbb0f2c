//! Charts of a run, as SVG: panels of horizontal bars, a bar for each way, the same order everywhere.
//! The direct way stands beside a panel's title instead: its bar would make all others short.

use std::fmt::Write as _;

use super::{
    metric::Metric::{self, *},
    postern::CARRIERS,
    results::Results,
};

/// A chart.
#[derive(Debug)]
pub struct Chart {
    /// Name of its file.
    pub file: &'static str,
    title: &'static str,
    panels: &'static [Panel],
}

/// A work, the figure of it, and what to call that.
type Panel = (&'static str, Metric, &'static str);

/// All charts.
pub static CHARTS: [Chart; 5] = [
    Chart {
        file: "requests.svg",
        title: "Requests a second (more is better)",
        panels: &[
            ("small-1", Rate, "1 KB, 1 client"),
            ("small-16", Rate, "1 KB, 16 clients"),
            ("small-64", Rate, "1 KB, 64 clients"),
            ("small-256", Rate, "1 KB, 256 clients"),
            ("connections", Rate, "1 KB, 16 clients, a new connection each"),
            ("websocket-64", Rate, "WebSocket echoes of 64 bytes, 64 clients"),
        ],
    },
    Chart {
        file: "latency.svg",
        title: "Latency in µs (less is better)",
        panels: &[
            ("small-1", P50, "1 KB, 1 client, p50"),
            ("small-64", P99, "1 KB, 64 clients, p99"),
            ("first-byte", P50, "first byte of a stream, p50"),
            ("websocket-1", P50, "WebSocket echo, 1 client, p50"),
        ],
    },
    Chart {
        file: "cpu.svg",
        title: "CPU time of both ends (less is better)",
        panels: &[
            ("small-64", CpuPerRequest, "µs a request of 1 KB, 64 clients"),
            ("100k", CpuPerRequest, "µs an answer of 100 KB, 64 clients"),
            ("down", CpuPerGigabyte, "s a GB down, one stream"),
            ("up", CpuPerGigabyte, "s a GB up, one stream"),
        ],
    },
    Chart {
        file: "throughput.svg",
        title: "Throughput in MB/s (more is better)",
        panels: &[
            ("down", Throughput, "1 GB down, one stream"),
            ("up", Throughput, "1 GB up, one stream"),
            ("parallel", Throughput, "10 MB down, 64 streams at once"),
            ("100k", Throughput, "100 KB answers, 64 clients"),
        ],
    },
    Chart {
        file: "memory.svg",
        title: "Most memory at the origin's end, in MiB (less is better)",
        panels: &[
            ("small-256", FarPeak, "1 KB, 256 clients"),
            ("down", FarPeak, "1 GB down, one stream"),
            ("up", FarPeak, "1 GB up, one stream"),
            ("parallel", FarPeak, "10 MB down, 64 streams at once"),
        ],
    },
];

const DIRECT: &str = "direct";
const INK: &str = "#1f2328";
const QUIET: &str = "#656d76";
const COLUMNS: usize = 2;
const PANEL: f64 = 460.0;
const MARGIN: f64 = 24.0;
const TITLE: f64 = 40.0;
/// Of a panel: its own title, and the rest below its bars.
const HEAD: f64 = 30.0;
const FOOT: f64 = 18.0;
const BAR: f64 = 16.0;
const ROW: f64 = 22.0;
/// Where bars begin, and how much is left for the value behind the longest.
const LABEL: f64 = 130.0;
const VALUE: f64 = 66.0;

/// Draws a chart of what was measured; `None` if that is nothing of it.
pub fn draw(results: &Results, chart: &Chart) -> Option<String> {
    let mut panels = Vec::new();
    for (work, metric, title) in chart.panels {
        let value = |way| results.median(work, way, *metric);
        let compared = results.ways.iter().filter(|(way, _)| *way != DIRECT);
        let bars: Vec<_> =
            compared.filter_map(|(way, name)| Some((*way, *name, value(way)?))).collect();
        let direct = value(DIRECT).map(|value| format!("direct: {}", metric.show(value)));
        if !bars.is_empty() {
            panels.push(((*title, direct.unwrap_or_default()), *metric, bars));
        }
    }
    let rows = panels.iter().map(|(.., bars)| bars.len()).max()?;
    let height = HEAD + rows as f64 * ROW + FOOT;
    let lines = panels.len().div_ceil(COLUMNS) as f64;
    let (whole_width, whole_height) =
        (2.0 * MARGIN + COLUMNS as f64 * PANEL, 2.0 * MARGIN + TITLE + lines * height);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {whole_width} {whole_height}\" \
         width=\"{whole_width}\" height=\"{whole_height}\" \
         font-family=\"system-ui, 'DejaVu Sans', Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"{INK}\">\n\
         <title>{title}</title>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#ffffff\"/>\n\
         <text x=\"{MARGIN}\" y=\"{y}\" font-size=\"17\" font-weight=\"600\">\
         {title}</text>\n",
        title = chart.title,
        y = MARGIN + 16.0,
    );
    for (n, (titles, metric, bars)) in panels.iter().enumerate() {
        let x = MARGIN + (n % COLUMNS) as f64 * PANEL;
        let y = MARGIN + TITLE + (n / COLUMNS) as f64 * height;
        text(&mut svg, (x, y + 14.0), "font-size=\"13\" font-weight=\"600\"", titles.0);
        let aside = format!("text-anchor=\"end\" fill=\"{QUIET}\"");
        text(&mut svg, (x + PANEL - MARGIN, y + 14.0), &aside, &titles.1);
        panel(&mut svg, (x, y), *metric, bars);
    }
    svg += "</svg>\n";
    Some(svg)
}

fn panel(svg: &mut String, (x, y): (f64, f64), metric: Metric, bars: &[(&str, &str, f64)]) {
    let most = bars.iter().map(|(_, _, value)| *value).fold(0.0, f64::max);
    for (n, (key, name, value)) in bars.iter().enumerate() {
        let top = y + HEAD + n as f64 * ROW;
        let length = value / most * (PANEL - LABEL - VALUE - MARGIN);
        let (bars_at, line) = (x + LABEL, top + BAR - 4.0);
        let weight = if is_ours(key) { "600" } else { "400" };
        let style = format!("font-weight=\"{weight}\"");
        text(svg, (bars_at - 8.0, line), &format!("text-anchor=\"end\" {style}"), name);
        text(svg, (bars_at + length + 6.0, line), &style, &metric.show(*value));
        let _ = writeln!(
            svg,
            "<rect x=\"{bars_at:.1}\" y=\"{top:.1}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\" \
             fill=\"{}\"/>",
            colour(key)
        );
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), style: &str, text: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{text}</text>");
}

fn is_ours(way: &str) -> bool {
    CARRIERS.iter().any(|carrier| carrier.as_str() == way)
}

fn colour(way: &str) -> &'static str {
    match way {
        "quic" => "#0b5cad",
        "http2" => "#54aeff",
        _ => "#c69a6d",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{machine::Machine, work::WORKS};

    #[test]
    fn a_chart_has_a_bar_for_each_way_that_was_measured() {
        let mut results = Results::new(Machine::default(), 1, 1.0, WORKS.to_vec());
        assert_eq!(draw(&results, &CHARTS[0]), None);
        results.ways = vec![("direct", "direct"), ("quic", "Postern, QUIC")];
        let work = WORKS.iter().find(|work| work.key == "small-64").unwrap();
        results.add(work, "direct", Rate, 20_000.0);
        results.add(work, "quic", Rate, 10_000.0);
        let svg = draw(&results, &CHARTS[0]).unwrap();
        assert!(svg.contains("direct: 20,000") && svg.contains("Postern, QUIC"), "{svg}");
        assert_eq!(svg.matches("rx=\"2\"").count(), 1);
    }
}
