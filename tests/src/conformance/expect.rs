//! What must have come, and whether it has.
//!
//! | expectation | of | means |
//! |---|---|---|
//! | `any`, `none` | the origin | no matter what; no request at all |
//! | `closed` | the client | the connection ended without an answer |
//! | `POST /a` | the origin | this method and target |
//! | `200`, `4xx`, `400/431` | the client | a status |
//! | `name: value` | both | the field's values, joined by commas |
//! | `name: *` | both | the field, whatever it says |
//! | `!name` | both | no such field |
//! | `name` with a capital, as in `Name` | both | the field's name in these letters |
//! | `trailer name: value`, `!trailer name` | both | the same behind the body |
//! | `body TEXT` | both | these bytes; at the origin nothing where it is missing, at the client anything |
//! | `body?` | the origin | any body |
//! | `broken`, `broken?` | both | the body must not look whole; may be either |
//! | `reason TEXT` | the client | the reason phrase |
//! | `interim 103` | the client | such an answer came before; with a field's `name: value` behind a comma |
//! | `problem` | the client | Postern's own refusal is a problem+json object |
//!
//! They are parted by ` ; `, and several messages by ` && `.

use anyhow::Context as _;

use super::{
    client::Got,
    message::{Message, field},
    origin::Seen,
    script::{self, Names},
};

/// Compares what came with one outcome; `is_postern` tells whether Postern stood in between.
///
/// # Errors
/// If the expectation is not understood.
pub fn differs(
    (sees, gets): &(String, String),
    seen: &Seen,
    got: &Got,
    names: &Names<'_>,
    is_postern: bool,
) -> anyhow::Result<Option<String>> {
    let judge = Judge { names, is_postern };
    if let Some(difference) = judge.origin(sees, seen)? {
        return Ok(Some(format!("origin: {difference}")));
    }
    judge.client(gets, got)
}

struct Judge<'a> {
    names: &'a Names<'a>,
    is_postern: bool,
}

impl Judge<'_> {
    fn origin(&self, expected: &str, seen: &Seen) -> anyhow::Result<Option<String>> {
        if let Some(message) =
            seen.requests.iter().find(|m| m.field("proxy-authorization").is_some())
        {
            return Ok(Some(format!("credentials in {}", message.first)));
        }
        if expected == "any" {
            return Ok(None);
        }
        if let Some(fault) = seen.faults.first() {
            return Ok(Some(fault.clone()));
        }
        let expected: Vec<&str> = match expected {
            "none" => Vec::new(),
            _ => expected.split(" && ").collect(),
        };
        if expected.len() != seen.requests.len() {
            let firsts: Vec<&str> = seen.requests.iter().map(|m| m.first.as_str()).collect();
            return Ok(Some(match firsts.as_slice() {
                [] => "no request".to_owned(),
                _ => format!("{} requests: {}", firsts.len(), firsts.join(", ")),
            }));
        }
        for (expected, message) in expected.iter().zip(&seen.requests) {
            if let Some(difference) = self.message(expected, message, true)? {
                return Ok(Some(difference));
            }
        }
        Ok(None)
    }

    fn client(&self, expected: &str, got: &Got) -> anyhow::Result<Option<String>> {
        let statuses: Vec<&str> = got.answers.iter().map(|answer| answer.first.as_str()).collect();
        let fault = got.fault.as_deref();
        if expected == "closed" {
            let is_closed =
                statuses.is_empty() && fault.is_some_and(|f| f.contains("without an answer"));
            return Ok((!is_closed)
                .then(|| format!("{} {}", statuses.join(", "), fault.unwrap_or_default())));
        }
        let expected: Vec<&str> = expected.split(" && ").collect();
        for (expected, message) in expected.iter().zip(&got.answers) {
            if let Some(difference) = self.message(expected, message, false)? {
                return Ok(Some(difference));
            }
        }
        Ok(match fault {
            Some(fault) => Some(fault.to_owned()),
            None if expected.len() != got.answers.len() => {
                Some(format!("{} answers: {}", statuses.len(), statuses.join(", ")))
            }
            None => None,
        })
    }

    fn message(
        &self,
        expected: &str,
        message: &Message,
        is_request: bool,
    ) -> anyhow::Result<Option<String>> {
        let mut items = expected.split(" ; ").map(str::trim);
        let first = items.next().context("nothing is expected")?;
        let first = if is_request { self.text(first)? } else { first.to_owned() };
        let is_first = if is_request {
            message.first == first
        } else {
            first.split('/').any(|status| is_status(status, message.status()))
        };
        if !is_first {
            let told = message.field("postern-error").map(|code| format!(" {code}"));
            return Ok(Some(format!("{}{}", message.first, told.unwrap_or_default())));
        }
        let (mut has_body, mut is_broken, mut may_break) = (!is_request, false, false);
        for item in items {
            match item {
                "broken" => is_broken = true,
                "broken?" => may_break = true,
                _ => {
                    has_body |= item == "body" || item == "body?" || item.starts_with("body ");
                    if let Some(difference) = self.item(item, message)? {
                        return Ok(Some(difference));
                    }
                }
            }
        }
        if !has_body && !message.body.is_empty() {
            return Ok(Some(format!("a body: {}", short(&message.body))));
        }
        Ok(match &message.broken {
            _ if may_break => None,
            Some(fault) if !is_broken => Some(format!("the body is not whole: {fault}")),
            None if is_broken => Some("the body looks whole".to_owned()),
            _ => None,
        })
    }

    fn item(&self, item: &str, message: &Message) -> anyhow::Result<Option<String>> {
        if item == "problem" {
            let kind = message.field("content-type");
            let is_problem = kind.as_deref() == Some("application/problem+json");
            return Ok((self.is_postern && !is_problem).then(|| "no problem+json".to_owned()));
        }
        if item == "body?" {
            return Ok(None);
        }
        if let Some(body) = item.strip_prefix("body") {
            let body = script::bytes(body.strip_prefix(' ').unwrap_or(body), self.names)?;
            return Ok(
                (body != message.body).then(|| format!("the body is {}", short(&message.body)))
            );
        }
        if let Some(reason) = item.strip_prefix("reason") {
            let phrase = message.first.get(4..).unwrap_or_default();
            return Ok((phrase != reason.trim()).then(|| format!("the reason is {phrase:?}")));
        }
        if let Some(interim) = item.strip_prefix("interim ") {
            let (status, more) = interim.split_once(", ").unwrap_or((interim, ""));
            let mut heads = message.interim.iter();
            let Some(head) = heads.find(|head| is_status(status, head.status())) else {
                return Ok(Some(format!("no {status}")));
            };
            return if more.is_empty() { Ok(None) } else { self.item(more, head) };
        }
        let (fields, item, place) = match item.strip_prefix("trailer ") {
            Some(item) => (&message.trailers, item.to_owned(), "trailer "),
            None => match item.strip_prefix("!trailer ") {
                Some(item) => (&message.trailers, format!("!{item}"), "trailer "),
                None => (&message.fields, item.to_owned(), ""),
            },
        };
        if let Some(name) = item.strip_prefix('!') {
            return Ok(field(fields, name).map(|value| format!("{place}{name}: {value}")));
        }
        let Some((name, value)) = item.split_once(':') else {
            let name = self.text(&item)?;
            let is_there = fields.iter().any(|field| field.name == name);
            return Ok((!is_there).then(|| format!("no {place}{item} in these letters")));
        };
        let (name, expected) = (self.text(name)?, self.text(value.trim())?);
        Ok(match field(fields, &name) {
            Some(value) if value == expected || expected == "*" => None,
            Some(value) => Some(format!("{place}{name}: {}", short(value.as_bytes()))),
            None => Some(format!("no {place}{name}")),
        })
    }

    fn text(&self, text: &str) -> anyhow::Result<String> {
        Ok(script::bytes(text, self.names)?.iter().map(|byte| char::from(*byte)).collect())
    }
}

fn is_status(expected: &str, status: u16) -> bool {
    match expected.strip_suffix("xx") {
        Some(class) => class.parse() == Ok(status / 100),
        None => expected.parse() == Ok(status),
    }
}

fn short(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let start: String = text.chars().take(40).collect();
    match bytes.len() {
        0..=40 => format!("{start:?}"),
        length => format!("{length} bytes, {start:?}…"),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::message::{Fault, Field},
        *,
    };

    const NAMES: Names<'_> = Names { origin: "o:1", credentials: None, id: "7" };

    fn request(first: &str, body: &str) -> Message {
        let fields = vec![Field { name: "X-A".into(), value: "1".into() }];
        Message { first: first.into(), fields, body: body.into(), ..Message::default() }
    }

    fn differs_for(sees: &str, gets: &str, seen: &Seen, got: &Got) -> Option<String> {
        differs(&(sees.into(), gets.into()), seen, got, &NAMES, false).unwrap()
    }

    #[test]
    fn what_is_as_expected_does_not_differ_and_everything_else_does() {
        let seen = Seen { requests: vec![request("POST /a", "x")], faults: Vec::new() };
        let answer = Message { broken: Some(Fault::Reset), ..request("200 OK", "y") };
        let got = Got { answers: vec![answer], fault: None };
        for (sees, gets, is_same) in [
            ("POST /a ; body x ; x-a: 1 ; !x-b ; X-A", "2xx ; broken ; body y ; reason OK", true),
            ("any", "200/204 ; broken?", true),
            ("POST /a ; body x", "200", false),
            ("POST /a", "200 ; broken", false),
            ("POST /b ; body x", "200 ; broken", false),
            ("none", "200 ; broken", false),
            ("POST /a ; body x && GET /canary", "200 ; broken", false),
            ("POST /a ; body x ; x-a: 2", "200 ; broken", false),
            ("POST /a ; body x ; x-b: 2", "200 ; broken", false),
            ("POST /a ; body x ; !x-a", "200 ; broken", false),
            ("POST /a ; body x ; x-A", "200 ; broken", false),
            ("POST /a ; body x ; trailer x-t: 1", "200 ; broken", false),
            ("POST /a ; body x", "404 ; broken", false),
            ("POST /a ; body x", "200 ; broken ; interim 103", false),
            ("POST /a ; body x", "200 ; broken && 200", false),
            ("POST /a ; body x", "closed", false),
        ] {
            let difference = differs_for(sees, gets, &seen, &got);
            assert_eq!(difference.is_none(), is_same, "{sees} | {gets}: {difference:?}");
        }
    }
}
