//! Who tried to come in and could not: logins, API keys, links that work once, join tokens. Each is told in the log and
//! in the audit log, with account and address. Strangers decide how many there are, so they are gathered: what fails
//! again counts up, and a bounded number of entries is written.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use protocol::id::TenantId;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    store::{
        self,
        audit::{Actor, Entry},
    },
};

/// Whatever fails within this time is told together.
const GATHER: Duration = Duration::from_secs(2);
/// Different failures that wait to be told; more are only counted.
const MAX_WAITING: usize = 1_000;
/// Entries that may be written at once, after a quiet time.
const BURST: usize = 60;
/// Gatherings after which one more entry may be written: every 10 s, some 9,000 a day at most.
const REFILL: u32 = 5;
/// Longest account that is told, in characters.
const MAX_SUBJECT: usize = 128;

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Failure {
    /// Whose account it was for, where that is known; otherwise the operators hear of it.
    pub(crate) tenant: Option<TenantId>,
    /// Such as `session.fail`.
    pub(crate) action: &'static str,
    /// The account as it was sent, or the id of the key.
    pub(crate) subject: String,
    /// From where.
    pub(crate) ip: IpAddr,
    /// What was wrong.
    pub(crate) reason: &'static str,
}

/// Failures that have not been told yet.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    counts: HashMap<Failure, u64>,
    /// Beyond what is kept apart.
    others: u64,
}

impl Failures {
    /// Takes one down. It never waits.
    pub(crate) fn note(&self, failure: Failure) {
        let subject =
            failure.subject.chars().filter(|c| !c.is_control()).take(MAX_SUBJECT).collect();
        let failure = Failure { subject, ip: failure.ip.to_canonical(), ..failure };
        let mut waiting = self.waiting();
        if waiting.counts.len() >= MAX_WAITING && !waiting.counts.contains_key(&failure) {
            waiting.others += 1;
            return;
        }
        *waiting.counts.entry(failure).or_default() += 1;
    }

    /// Tells them, a bounded number at a time, until told to stop; what is left is told then.
    pub(crate) async fn work(&self, app: &App, stop: CancellationToken) {
        let mut tick = tokio::time::interval(GATHER);
        let (mut allowed, mut ticks) = (BURST, 0);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            ticks = (ticks + 1) % REFILL;
            allowed = (allowed + usize::from(ticks == 0)).min(BURST);
            allowed -= self.tell(app, allowed).await;
        }
        self.tell(app, allowed).await;
    }

    /// Returns how many entries were written.
    async fn tell(&self, app: &App, most: usize) -> usize {
        let (failures, others) = self.take(most);
        if failures.is_empty() && others == 0 {
            return 0;
        }
        for (failure, count) in &failures {
            tracing::info!(
                action = failure.action,
                subject = failure.subject,
                remote = %failure.ip,
                reason = failure.reason,
                count,
                "somebody could not come in"
            );
        }
        let written = failures.len() + usize::from(others > 0);
        if let Err(error) = record(app, &failures, others).await {
            tracing::warn!(
                error = error.as_source(),
                "failed attempts are not in the audit log yet"
            );
            self.put_back(failures, others);
        }
        written
    }

    fn put_back(&self, failures: Vec<(Failure, u64)>, others: u64) {
        let mut waiting = self.waiting();
        waiting.others += others;
        for (failure, count) in failures {
            if waiting.counts.len() < MAX_WAITING || waiting.counts.contains_key(&failure) {
                *waiting.counts.entry(failure).or_default() += count;
            } else {
                waiting.others += count;
            }
        }
    }

    /// Those that were tried most often.
    fn take(&self, most: usize) -> (Vec<(Failure, u64)>, u64) {
        let mut waiting = self.waiting();
        if most == 0 {
            return (Vec::new(), 0);
        }
        let others = std::mem::take(&mut waiting.others);
        let most = most - usize::from(others > 0);
        let mut failures: Vec<_> = waiting.counts.drain().collect();
        failures.sort_unstable_by_key(|(_, count)| std::cmp::Reverse(*count));
        let rest = failures.split_off(most.min(failures.len()));
        waiting.counts.extend(rest);
        (failures, others)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

async fn record(app: &App, failures: &[(Failure, u64)], others: u64) -> store::Result<()> {
    let mut record = app.store.record().await?;
    let operators = store::tenant::operator(&mut record).await?;
    let at_ms = app.clock.now_ms();
    let mut entries: Vec<_> = failures
        .iter()
        .map(|(failure, count)| Entry {
            tenant: failure.tenant.unwrap_or(operators),
            actor: Actor::Stranger { address: failure.ip.to_string() },
            action: failure.action,
            subject: failure.subject.clone(),
            detail: json!({ "reason": failure.reason, "count": count }),
            at_ms,
        })
        .collect();
    if others > 0 {
        entries.push(Entry {
            tenant: operators,
            actor: Actor::System,
            action: "session.fail",
            subject: String::new(),
            detail: json!({ "reason": "others", "count": others }),
            at_ms,
        });
    }
    record.commit_all(entries).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(subject: impl ToString) -> Failure {
        Failure {
            tenant: None,
            action: "session.fail",
            subject: subject.to_string(),
            ip: IpAddr::from([192, 0, 2, 1]),
            reason: "wrong_password",
        }
    }

    #[test]
    fn what_fails_most_is_told_first_and_nothing_grows_without_bound() {
        let failures = Failures::default();
        for n in 0..2 * MAX_WAITING {
            failures.note(failure(n));
            failures.note(failure("owner@localhost"));
        }
        let (told, others) = failures.take(3);
        assert_eq!(told.len(), 2, "the third is for the others");
        assert_eq!(told[0].0, failure("owner@localhost"));
        assert_eq!(told[0].1 as usize, 2 * MAX_WAITING);
        assert_eq!(others as usize, MAX_WAITING + 1);
        assert_eq!(failures.waiting().counts.len(), MAX_WAITING - 2);
        assert_eq!(failures.take(0), (Vec::new(), 0));
    }

    #[test]
    fn an_account_is_told_as_it_was_sent_but_short_and_in_one_line() {
        let failures = Failures::default();
        failures.note(failure(format!("a\n{}", "x".repeat(1_000))));
        let (told, _) = failures.take(1);
        assert_eq!(told[0].0.subject, format!("a{}", "x".repeat(MAX_SUBJECT - 1)));
    }
}
