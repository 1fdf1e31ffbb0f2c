//! Verdicts as tables: for the test, what has changed; for people, how the ways compare.

use std::fmt::Write as _;

use super::{corpus::Known, run::Verdict, way::Kind};

/// One kind of cases over some ways.
#[derive(Debug)]
pub struct Table {
    /// What it is about.
    pub title: &'static str,
    /// The ways, in the order of every row's verdicts.
    pub ways: Vec<Kind>,
    /// The cases.
    pub rows: Vec<Row>,
}

/// A case over all ways.
#[derive(Debug)]
pub struct Row {
    /// What the case belongs to.
    pub group: String,
    /// Its name.
    pub name: String,
    /// What came of it, way by way.
    pub verdicts: Vec<Verdict>,
    /// Differences that are known.
    pub known: Vec<Known>,
}

impl Row {
    fn known(&self, way: Kind) -> Option<&Known> {
        self.known.iter().find(|known| known.ways.iter().any(|key| key == way.key()))
    }
}

impl Table {
    /// A table of cases without verdicts yet.
    pub fn new(title: &'static str, rows: Vec<Row>) -> Self {
        Self { title, ways: Vec::new(), rows }
    }

    /// Adds a way, with the verdicts of all cases.
    pub fn add(&mut self, way: Kind, verdicts: Vec<Verdict>) {
        assert_eq!(verdicts.len(), self.rows.len(), "a verdict for each case");
        self.ways.push(way);
        for (row, verdict) in self.rows.iter_mut().zip(verdicts) {
            row.verdicts.push(verdict);
        }
    }

    /// What is not as the corpus lists it: Postern differs and is not listed, or is listed and does not.
    pub fn surprises(&self) -> Vec<String> {
        let mut surprises = Vec::new();
        for row in &self.rows {
            for (way, verdict) in self.ways.iter().zip(&row.verdicts) {
                if !way.is_postern() {
                    continue;
                }
                let case = format!("{}, {} over {}", self.title, row.name, way.key());
                match (verdict, row.known(*way)) {
                    (Verdict::Differs(how), None) => surprises.push(format!("{case}: {how}")),
                    (Verdict::Same, Some(known)) if !known.at_times => {
                        surprises.push(format!("{case}: as it should be, but listed as differing"));
                    }
                    (Verdict::Differs(_), Some(_)) | (Verdict::Same | Verdict::Unasked, _) => {}
                }
            }
        }
        surprises
    }

    fn head(&self, first: &str) -> String {
        let names: Vec<&str> = self.ways.iter().map(|way| way.name()).collect();
        format!("| {first} | {} |\n|---{}|\n", names.join(" | "), "|---".repeat(names.len()))
    }

    /// How many cases of each group are as they should be.
    pub fn summary(&self) -> String {
        let mut text = self.head("cases as the standard says");
        let mut groups: Vec<&str> = self.rows.iter().map(|row| row.group.as_str()).collect();
        groups.dedup();
        for group in groups.iter().copied().map(Some).chain([None]) {
            let rows =
                || self.rows.iter().filter(|row| group.is_none_or(|group| row.group == group));
            let _ = write!(text, "| {} |", group.map_or("**all**".to_owned(), escaped));
            for n in 0..self.ways.len() {
                let asked = rows().filter(|row| row.verdicts[n] != Verdict::Unasked).count();
                let same = rows().filter(|row| row.verdicts[n] == Verdict::Same).count();
                let _ = match asked {
                    0 => write!(text, " – |"),
                    asked => write!(text, " {same} of {asked} |"),
                };
            }
            text.push('\n');
        }
        text
    }

    /// The cases in which Postern differs, with the reasons.
    pub fn differences(&self) -> Option<String> {
        let mut text = String::new();
        for row in &self.rows {
            let differs = |(way, verdict): (&Kind, &Verdict)| {
                way.is_postern() && matches!(verdict, Verdict::Differs(_))
            };
            if !self.ways.iter().zip(&row.verdicts).any(differs) {
                continue;
            }
            let known = self.ways.iter().find_map(|way| row.known(*way));
            let why = known.map_or("**not listed**", |known| known.why.as_str());
            let _ = write!(text, "| {} |", escaped(&row.name));
            for verdict in &row.verdicts {
                let _ = write!(text, " {} |", told(verdict));
            }
            let _ = writeln!(text, " {why} |");
        }
        if text.is_empty() {
            return None;
        }
        let head = self.head("case");
        let (names, line) = head.split_once('\n')?;
        Some(format!("{names} why |\n{}---|\n{text}", line.trim_end()))
    }

    /// Every case.
    pub fn whole(&self) -> String {
        let mut text = String::new();
        let mut group = None;
        for row in &self.rows {
            if group != Some(&row.group) {
                group = Some(&row.group);
                let _ = write!(text, "\n### {}\n\n{}", escaped(&row.group), self.head("case"));
            }
            let _ = write!(text, "| {} |", escaped(&row.name));
            for verdict in &row.verdicts {
                let _ = write!(text, " {} |", told(verdict));
            }
            text.push('\n');
        }
        text
    }
}

fn told(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Same => "✓".to_owned(),
        Verdict::Differs(how) => escaped(&how.chars().take(70).collect::<String>()),
        Verdict::Unasked => "–".to_owned(),
    }
}

/// As text in a cell. Ports and the like are of one run alone.
fn escaped(text: &str) -> String {
    let text = text.chars().take(60).collect::<String>();
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '|' | '*' | '_' | '<' | '>' | '`' | '[' | ']' | '\\' => {
                escaped.push('\\');
                escaped.push(c);
            }
            c if c.is_control() => escaped.push('�'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use protocol::presence::Transport;

    use super::*;

    #[test]
    fn a_difference_must_be_listed_and_what_is_listed_must_differ() {
        let row = |name: &str, known: &[&str]| Row {
            group: "g".into(),
            name: name.into(),
            verdicts: Vec::new(),
            known: known
                .iter()
                .map(|way| Known {
                    ways: vec![way.trim_end_matches('?').to_owned()],
                    why: "why".into(),
                    at_times: way.ends_with('?'),
                })
                .collect(),
        };
        let known = [&[][..], &["quic"], &[], &["quic"], &["quic?"], &["quic?"]];
        let names = ["a", "b", "c", "d", "e", "f"];
        let rows = names.iter().zip(known).map(|(name, known)| row(name, known)).collect();
        let mut table = Table::new("t", rows);
        let differs = || Verdict::Differs("502".into());
        let same = Verdict::Same;
        let verdicts = [same.clone(), differs(), differs(), same.clone(), differs(), same];
        table.add(
            Kind::Direct,
            vec![differs(), differs(), differs(), differs(), differs(), differs()],
        );
        table.add(Kind::Postern(Transport::Quic), verdicts.to_vec());
        let surprises = table.surprises();
        assert_eq!(surprises.len(), 2, "{surprises:?}");
        assert!(surprises[0].contains("c over quic: 502"), "{surprises:?}");
        assert!(surprises[1].contains("d over quic: as it should be"), "{surprises:?}");
        let differences = table.differences().unwrap();
        assert!(differences.contains("| b | 502 | 502 | why |"), "{differences}");
        assert!(table.summary().contains("| g | 0 of 6 | 3 of 6 |"), "{}", table.summary());
    }
}
