//! A run, told to people: tables on the terminal, and a page with the same tables.

use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use super::{
    goals, plot,
    results::Results,
    table::Table,
    work::{WORKS, Work},
};

/// The way that others are compared with.
const BASE: &str = "direct";

/// The figures of one work; `None` if there are none.
pub fn work(results: &Results, work: &Work) -> Option<Table> {
    let ways: Vec<_> = results.ways_of(work).collect();
    let has = |metric| ways.iter().any(|(way, _)| results.median(work.key, way, metric).is_some());
    let metrics: Vec<_> = work.shows.iter().copied().filter(|metric| has(*metric)).collect();
    let compared = *metrics.first()?;
    let base = results.median(work.key, BASE, compared);
    let mut header = vec![String::new()];
    header.extend(metrics.iter().map(|metric| metric.label().to_owned()));
    header.extend(base.map(|_| format!("{} × direct", compared.label())));
    let rows = ways.iter().map(|(way, name)| {
        let mut row = vec![(*name).to_owned()];
        for metric in &metrics {
            let value = results.median(work.key, way, *metric);
            row.push(value.map_or("–".to_owned(), |value| metric.show(value)));
        }
        let own = results.median(work.key, way, compared);
        row.extend(base.zip(own).map(|(base, own)| format!("{:.2}", own / base)));
        row
    });
    Some(Table { header, rows: rows.collect(), names: 1 })
}

/// The goals, and how many are met; of a run of some works, those goals alone that it can judge.
pub fn goals(results: &Results) -> (Table, String) {
    let judged = goals::judge(results);
    let is_whole = results.works.len() == WORKS.len();
    let shown = judged.iter().filter(|goal| is_whole || goal.is_met.is_some());
    let rows = shown.map(|goal| {
        let (what, way, outcome) = (goal.what.to_owned(), goal.way.to_owned(), goal.outcome());
        vec![what, way, goal.goal.clone(), outcome, goal.floor(), goal.verdict().to_owned()]
    });
    let header =
        ["goal", "way", "bound", "this run", "libraries alone", ""].map(str::to_owned).to_vec();
    let count = |is_met| judged.iter().filter(|goal| goal.is_met == is_met).count();
    let summary = format!(
        "{} goals met, {} missed, {} not measured.",
        count(Some(true)),
        count(Some(false)),
        count(None)
    );
    (Table { header, rows: rows.collect(), names: 3 }, summary)
}

/// On what the run ran, and how.
pub fn conditions(results: &Results) -> String {
    let Results { machine, rounds, seconds, .. } = results;
    let software = machine.software.iter().map(|(name, version)| format!("{name} {version}"));
    let build = match machine.by_profile {
        true => "Postern's programs are built by a profile (`make profile`)",
        false => "Postern's programs are built without a profile",
    };
    format!(
        "{}. {rounds} rounds, {seconds} s a measurement, medians. {}. {build}.",
        machine.line(),
        software.collect::<Vec<_>>().join(", ")
    )
}

/// What is missing, one line each.
pub fn left_out(results: &Results) -> String {
    let line = |what: &str, why: &str| format!("- {what}: {}\n", why.replace('\n', " "));
    results.left_out.iter().map(|left| line(&left.what, &left.why)).collect()
}

/// Writes `results.json`, `results.md` and the plots into a directory.
///
/// # Errors
/// If they cannot be written.
pub fn write(results: &Results, directory: &Path) -> anyhow::Result<()> {
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    std::fs::create_dir_all(directory)?;
    write("results.json", &lines(&results.json()))?;
    write("results.md", &page(results))?;
    for chart in &plot::CHARTS {
        if let Some(svg) = plot::draw(results, chart) {
            write(chart.file, &svg)?;
        }
    }
    Ok(())
}

/// A JSON object with a line for each field, and for each element where that is an array.
fn lines(object: &Value) -> String {
    let field = |(name, value): (&String, &Value)| match value.as_array() {
        Some(elements) if !elements.is_empty() => {
            let elements: Vec<String> = elements.iter().map(Value::to_string).collect();
            format!("\"{name}\": [\n{}\n]", elements.join(",\n"))
        }
        _ => format!("\"{name}\": {value}"),
    };
    let fields: Vec<String> = object.as_object().into_iter().flatten().map(field).collect();
    format!("{{\n{}\n}}\n", fields.join(",\n"))
}

fn page(results: &Results) -> String {
    let (goals, summary) = goals(results);
    let mut page = format!(
        "# Results\n\n<!-- Written by `make bench`. -->\n\n\
         Written by `make bench`; how to read it stands in [performance](../performance.md), and every \
         round's values in [results.json](results.json).\n\n{}\n\n## Goals\n\n{summary}\n\n{}",
        conditions(results),
        goals.markdown()
    );
    for one in &results.works {
        if let Some(table) = work(results, one) {
            page += &format!("\n## {}\n\n`{}`\n\n{}", one.title, one.key, table.markdown());
        }
    }
    if !results.left_out.is_empty() {
        page += &format!("\n## Left out\n\n{}", left_out(results));
    }
    page
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_json_file_has_a_line_for_each_element() {
        let object = json!({ "all": [{ "n": 1 }, { "n": 2 }], "none": [], "seconds": 1.5 });
        let text = lines(&object);
        assert_eq!(text.lines().count(), 8);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), object);
    }
}
