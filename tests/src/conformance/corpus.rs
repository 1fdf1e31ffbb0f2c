//! The corpus: cases as lines of text, in `tests/corpus`.
//!
//! ```text
//! == a section's title                         every case belongs to one; `== title [proxy]` holds what only
//!                                              a forward proxy can be asked, `== title [servers]` what other
//!                                              servers are asked as well, see [`super::servers`]
//! # a remark
//! each v: 200 204 …                            the next case once for every word, which replaces `<v>`;
//!                                              `␣` in a word is a space; several such lines multiply
//! name | client | origin sees | origin answers | client gets | ! ways: why they differ
//! ! name | ways: why they differ               the same of a case that stands before
//! ? name | ways: why they may differ           the same, but only at times: a race decides
//! ```
//!
//! The second and fourth column are scripts ([`super::script`]), the third and fifth expectations
//! ([`super::expect`]). `-` stands for what is usual: a GET of `/`, anything, 200 with the body `ok`, and that
//! answer. Where a standard allows more than one outcome, both expectations list them, parted by ` or `, in the
//! same order; where one column is shorter, its last one holds for the rest. The last column, which may be
//! repeated, lists the ways that are known to differ, and why that is accepted: a way that is listed and does
//! not differ is as much a failure as one that differs and is not listed.
//!
//! Expectations are what the standards say, not what Postern does.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};

/// What a column with `-` stands for.
const USUAL: [&str; 4] =
    ["GET ~/ HTTP/1.1¶Host: @¶¶", "any", "HTTP/1.1 200 OK¶Content-Length: 2¶¶ok", "200 ; body ok"];

/// Who may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Every way.
    All,
    /// Forward proxies.
    Proxies,
    /// Every way, and in front of other servers, too.
    Servers,
}

/// A case.
#[derive(Debug, Clone)]
pub struct Case {
    /// The title that it stands under.
    pub section: String,
    /// Its name: no other case has it.
    pub name: String,
    /// Who may be asked.
    pub audience: Audience,
    /// What the client does.
    pub client: String,
    /// What the origin answers.
    pub answer: String,
    /// What the origin must see and the client must get.
    pub outcomes: Vec<(String, String)>,
    /// Differences that are known.
    pub known: Vec<Known>,
}

/// A difference that is known.
#[derive(Debug, Clone)]
pub struct Known {
    /// The keys of the ways that differ.
    pub ways: Vec<String>,
    /// Why that is accepted.
    pub why: String,
    /// Do they differ at times, rather than always?
    pub at_times: bool,
}

impl Case {
    /// The methods of the requests that the client sends.
    pub fn methods(&self) -> Vec<String> {
        let before = self.client.split(['~', '^']).collect::<Vec<_>>();
        let last_word = |text: &&str| {
            let word = text.trim_end_matches(' ').rsplit(['¶', '}', ' ', 'n']).next();
            word.unwrap_or_default().to_owned()
        };
        before[..before.len() - 1].iter().map(last_word).collect()
    }
}

/// Reads all files of the corpus.
///
/// # Errors
/// If one of them is not understood.
pub fn load() -> anyhow::Result<Vec<Case>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut files: Vec<_> = std::fs::read_dir(&directory)?.collect::<Result<_, _>>()?;
    files.retain(|file| file.path().extension().is_some_and(|extension| extension == "txt"));
    files.sort_by_key(std::fs::DirEntry::file_name);
    let mut cases = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file.path())?;
        let read = read(&text).with_context(|| file.path().display().to_string())?;
        cases.extend(read);
    }
    let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    ensure!(twice.is_none(), "two cases have the name {twice:?}");
    Ok(cases)
}

fn read(text: &str) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    let mut section = None;
    let mut each: Vec<(String, Vec<String>)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let at = || format!("line {}: {line}", number + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix("== ") {
            section = Some(match title.split_once(" [") {
                None => (title.to_owned(), Audience::All),
                Some((title, "proxy]")) => (title.to_owned(), Audience::Proxies),
                Some((title, "servers]")) => (title.to_owned(), Audience::Servers),
                Some(_) => bail!(at()),
            });
        } else if let Some(list) = line.strip_prefix("each ") {
            let (name, words) = list.split_once(':').with_context(at)?;
            let words = words.split_whitespace().map(|word| word.replace('␣', " ")).collect();
            each.push((name.to_owned(), words));
        } else if let Some(listed) = line.strip_prefix("! ").or(line.strip_prefix("? ")) {
            let at_times = line.starts_with('?');
            let (name, difference) = listed.split_once(" | ").with_context(at)?;
            for name in spread(name, &std::mem::take(&mut each)) {
                let case = cases.iter_mut().find(|case: &&mut Case| case.name == name);
                case.with_context(|| format!("no case {name}"))?
                    .known
                    .push(known(difference, at_times)?);
            }
        } else {
            let (title, audience) = section.clone().with_context(at)?;
            for line in spread(line, &std::mem::take(&mut each)) {
                cases.push(case(&title, audience, &line).with_context(at)?);
            }
        }
    }
    Ok(cases)
}

/// The line once for every word.
fn spread(line: &str, each: &[(String, Vec<String>)]) -> Vec<String> {
    let mut lines = vec![line.to_owned()];
    for (name, words) in each {
        let fill = |line: &String| {
            words.iter().map(|word| line.replace(&format!("<{name}>"), word)).collect::<Vec<_>>()
        };
        lines = lines.iter().flat_map(fill).collect();
    }
    lines
}

fn case(section: &str, audience: Audience, line: &str) -> anyhow::Result<Case> {
    let mut columns = line.split(" | ").map(str::trim);
    let name = columns.next().unwrap_or_default().to_owned();
    let mut texts = Vec::new();
    let mut differences = Vec::new();
    for column in columns {
        if let Some(difference) = column.strip_prefix("! ") {
            differences.push(known(difference, false)?);
        } else {
            texts.push(column);
        }
    }
    ensure!(texts.len() == USUAL.len(), "{} columns", texts.len() + 1);
    let text = |n: usize| if texts[n] == "-" { USUAL[n] } else { texts[n] };
    let alternatives = |n: usize| text(n).split(" or ").map(str::to_owned).collect::<Vec<_>>();
    let (sees, gets) = (alternatives(1), alternatives(3));
    let outcomes = (0..sees.len().max(gets.len()))
        .map(|n| (sees[n.min(sees.len() - 1)].clone(), gets[n.min(gets.len() - 1)].clone()));
    Ok(Case {
        section: section.to_owned(),
        name,
        audience,
        client: text(0).to_owned(),
        answer: text(2).to_owned(),
        outcomes: outcomes.collect(),
        known: differences,
    })
}

fn known(text: &str, at_times: bool) -> anyhow::Result<Known> {
    let (ways, why) = text.split_once(": ").context("no reason")?;
    let ways = ways.split(',').map(|way| way.trim().to_owned()).collect();
    Ok(Known { ways, why: why.to_owned(), at_times })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_multiplied() {
        let text =
            "== s\neach a: x y␣z\na-<a> | - | GET /<a> | - | 200 or 404 | ! quic,http2: why\n";
        let cases = read(text).unwrap();
        let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names, ["a-x", "a-y z"]);
        assert_eq!(cases[1].outcomes.len(), 2);
        assert_eq!(cases[1].outcomes[1], ("GET /y z".to_owned(), "404".to_owned()));
        assert_eq!((cases[0].known[0].why.as_str(), cases[0].known[0].at_times), ("why", false));
        let listed = read(&format!("{text}? a-x | direct: odd")).unwrap();
        let last = &listed[0].known[1];
        assert_eq!((last.why.as_str(), last.at_times), ("odd", true));
        assert_eq!(cases[0].methods(), ["GET"]);
    }

    #[test]
    fn methods_are_found_in_a_pipeline() {
        let text = "== s\nx | POST ~/a HTTP/1.1¶¶{answer}HEAD ~/b HTTP/1.1¶¶ | any | - | -\n";
        assert_eq!(read(text).unwrap()[0].methods(), ["POST", "HEAD"]);
    }

    #[test]
    fn the_corpus_is_understood_and_large_enough() {
        assert!(load().unwrap().len() >= 300);
    }
}
