//! What was found, for people and for programs.

use std::{fmt, process::ExitCode};

use protocol::presence::Transport;
use serde_json::{Value, json};

/// How one check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ok,
    /// Broken or odd, and links can do without.
    Warn,
    Fail,
    /// There was nothing to test.
    Skipped,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Skipped => "-",
        }
    }

    fn as_json(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skipped => "skipped",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug)]
pub(crate) struct Check {
    name: String,
    pub(crate) verdict: Verdict,
    detail: String,
    fix: Option<String>,
}

impl Check {
    pub(crate) fn new(
        name: impl Into<String>,
        verdict: Verdict,
        detail: impl Into<String>,
    ) -> Self {
        Self { name: name.into(), verdict, detail: detail.into(), fix: None }
    }

    /// What to do about it.
    pub(crate) fn fix(self, fix: impl Into<Option<String>>) -> Self {
        Self { fix: fix.into(), ..self }
    }
}

/// What all of it means.
#[derive(Debug)]
pub(crate) enum Conclusion {
    /// A connector would not even start.
    BadSetting,
    /// No link can come up.
    NoWay,
    Up {
        transport: Transport,
        way: String,
        /// Edges to which there is no way, out of all.
        unreachable: usize,
        edges: usize,
    },
}

impl fmt::Display for Conclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadSetting => write!(f, "The connector cannot start with these settings."),
            Self::NoWay => write!(f, "No link can come up: mend what FAILs above."),
            Self::Up { way, unreachable, edges, .. } => {
                write!(f, "Links come up over {way}.")?;
                if *unreachable > 0 {
                    write!(f, " {unreachable} of {edges} edges cannot be reached.")?;
                }
                Ok(())
            }
        }
    }
}

/// All that was found.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) checks: Vec<Check>,
    pub(crate) conclusion: Conclusion,
}

impl Report {
    /// 0 if links can come up, 1 if not, 2 if a setting cannot be used.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self.conclusion {
            Conclusion::Up { .. } => ExitCode::SUCCESS,
            Conclusion::NoWay => ExitCode::FAILURE,
            Conclusion::BadSetting => ExitCode::from(2),
        }
    }

    pub(crate) fn json(&self) -> Value {
        let checks = self.checks.iter().map(|check| {
            json!({
                "check": check.name,
                "verdict": check.verdict.as_json(),
                "detail": check.detail,
                "fix": check.fix,
            })
        });
        let transport = match &self.conclusion {
            Conclusion::Up { transport, .. } => Some(transport.as_str()),
            Conclusion::BadSetting | Conclusion::NoWay => None,
        };
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "ok": transport.is_some(),
            "transport": transport,
            "conclusion": self.conclusion.to_string(),
            "checks": checks.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
        for Check { name, verdict, detail, fix } in &self.checks {
            writeln!(f, "{name:width$}  {:4}  {detail}", verdict.as_str())?;
            if let Some(fix) = fix {
                writeln!(f, "{:width$}        => {fix}", "")?;
            }
        }
        writeln!(f, "\n{}", self.conclusion)
    }
}
