//! Failed logins make whoever tries wait: 1 s after the first, twice as long after each further one, at most 15 minutes,
//! and never for ever. What counts is the account together with the source of the try, so that strangers keep nobody out
//! by failing elsewhere. An account alone has a much softer bound, against tries from very many sources; a source from
//! which the account has been used before is not held by it. Unknown accounts wait in the same way, so that waiting
//! tells nothing.

use std::{collections::HashMap, sync::Mutex};

use room::Source;

/// Longest wait, in milliseconds.
const MAX_WAIT_MS: u64 = 15 * 60 * 1000;
/// Without a failure for that long, an account starts afresh.
const FORGET_AFTER_MS: u64 = 60 * 60 * 1000;
/// Accounts with a source, and accounts, that are remembered; beyond that, those that may try again soonest are forgotten.
const MAX_REMEMBERED: usize = 10_000;
/// Failures of one account from sources that it has not been used from; then one more for each of [`REFILL_MS`].
const ACCOUNT_FAILURES: u64 = 100;
const REFILL_MS: u64 = 10_000;

/// Failures by account and source, and by account.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    sources: Mutex<HashMap<(String, Source), Failures>>,
    /// Until when an account's failures count, each for [`REFILL_MS`].
    accounts: Mutex<HashMap<String, u64>>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    until_ms: u64,
}

impl Backoff {
    /// Takes a try. Refuses it, with the milliseconds to wait, while the source has to wait for this account; a try
    /// that is let through counts as failed until [`Backoff::succeeded`], so that many at once are no way around.
    pub(crate) fn begin(&self, account: &str, source: Source, now_ms: u64) -> Result<(), u64> {
        let mut sources = self.sources.lock().expect("no holder of this lock panics");
        let key = (account.to_owned(), source);
        let known = sources.get(&key).copied();
        let failures = known
            .filter(|f| now_ms < f.until_ms.saturating_add(FORGET_AFTER_MS))
            .unwrap_or(Failures { count: 0, until_ms: 0 });
        if now_ms < failures.until_ms {
            return Err(failures.until_ms - now_ms);
        }
        if known.is_none() && sources.len() >= MAX_REMEMBERED {
            let soonest =
                sources.iter().min_by_key(|(_, f)| f.until_ms).map(|(key, _)| key.clone());
            soonest.map(|key| sources.remove(&key));
        }
        let wait_ms =
            1_000u64.checked_shl(failures.count).map_or(MAX_WAIT_MS, |ms| ms.min(MAX_WAIT_MS));
        let count = (failures.count + 1).min(20);
        sources.insert(key, Failures { count, until_ms: now_ms + wait_ms });
        Ok(())
    }

    /// Takes a try from a source that the account has not been used from. Refuses it, with the milliseconds to wait,
    /// after very many failures from everywhere.
    pub(crate) fn begin_from_anywhere(&self, account: &str, now_ms: u64) -> Result<(), u64> {
        let mut accounts = self.accounts.lock().expect("no holder of this lock panics");
        let known = accounts.get(account).copied();
        let until_ms = known.unwrap_or(0).max(now_ms) + REFILL_MS;
        let beyond_ms = until_ms.saturating_sub(now_ms + ACCOUNT_FAILURES * REFILL_MS);
        if beyond_ms > 0 {
            return Err(beyond_ms);
        }
        if known.is_none() && accounts.len() >= MAX_REMEMBERED {
            let soonest = accounts.iter().min_by_key(|(_, until_ms)| **until_ms);
            let soonest = soonest.map(|(account, _)| account.clone());
            soonest.map(|account| accounts.remove(&account));
        }
        accounts.insert(account.to_owned(), until_ms);
        Ok(())
    }

    /// The try was good: the source starts afresh, and the account has one failure less.
    pub(crate) fn succeeded(&self, account: &str, source: Source) {
        let mut sources = self.sources.lock().expect("no holder of this lock panics");
        sources.remove(&(account.to_owned(), source));
        drop(sources);
        let mut accounts = self.accounts.lock().expect("no holder of this lock panics");
        if let Some(until_ms) = accounts.get_mut(account) {
            *until_ms = until_ms.saturating_sub(REFILL_MS);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn source(n: u32) -> Source {
        IpAddr::from(n.to_be_bytes()).into()
    }

    #[test]
    fn each_failure_doubles_the_wait_up_to_a_quarter_of_an_hour() {
        let backoff = Backoff::default();
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert_eq!(backoff.begin("a", source(1), now), Ok(()));
            let wait = backoff.begin("a", source(1), now).unwrap_err();
            waits.push(wait / 1_000);
            now += wait;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        assert_eq!(backoff.begin("b", source(1), now), Ok(()), "other accounts do not wait");
        assert_eq!(backoff.begin("a", source(1), now), Ok(()));
        assert_eq!(backoff.begin("a", source(2), now), Ok(()), "other sources do not wait");
        backoff.succeeded("a", source(1));
        assert_eq!(backoff.begin("a", source(1), now), Ok(()));
        assert_eq!(backoff.begin("a", source(1), now), Err(1_000), "a success starts afresh");
    }

    #[test]
    fn an_account_has_a_soft_bound_of_its_own() {
        let backoff = Backoff::default();
        for n in 0..ACCOUNT_FAILURES {
            assert_eq!(backoff.begin_from_anywhere("a", 0), Ok(()), "{n}");
        }
        assert_eq!(backoff.begin_from_anywhere("a", 0), Err(REFILL_MS));
        assert_eq!(backoff.begin_from_anywhere("b", 0), Ok(()));
        assert_eq!(backoff.begin_from_anywhere("a", REFILL_MS), Ok(()));
        assert_eq!(backoff.begin_from_anywhere("a", REFILL_MS), Err(REFILL_MS));
        backoff.succeeded("a", source(1));
        assert_eq!(
            backoff.begin_from_anywhere("a", REFILL_MS),
            Ok(()),
            "a success counts for nothing"
        );
    }

    #[test]
    fn a_flood_of_accounts_is_bounded() {
        let backoff = Backoff::default();
        for n in 0..MAX_REMEMBERED as u64 + 10 {
            assert_eq!(backoff.begin(&n.to_string(), source(1), n), Ok(()));
            assert_eq!(backoff.begin_from_anywhere(&n.to_string(), n), Ok(()));
        }
        assert_eq!(backoff.sources.lock().unwrap().len(), MAX_REMEMBERED);
        assert_eq!(backoff.accounts.lock().unwrap().len(), MAX_REMEMBERED);
    }
}
