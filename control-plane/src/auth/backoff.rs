//! Failed logins make an account wait: 1 s after the first, twice as long after each further one, at
//! most 15 minutes, and never for ever. Unknown accounts wait in the same way, so that waiting tells
//! nothing.

use std::{collections::HashMap, sync::Mutex};

/// Longest wait, in milliseconds.
const MAX_WAIT_MS: u64 = 15 * 60 * 1000;
/// Without a failure for that long, an account starts afresh.
const FORGET_AFTER_MS: u64 = 60 * 60 * 1000;
/// Accounts that are remembered; beyond that, those that may try again soonest are forgotten.
const MAX_ACCOUNTS: usize = 10_000;

/// Failures by account.
#[derive(Debug, Default)]
pub(crate) struct Backoff(Mutex<HashMap<String, Failures>>);

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    until_ms: u64,
}

impl Backoff {
    /// Takes a try. Refuses it, with the milliseconds to wait, while the account has to wait; a try
    /// that is let through counts as failed until [`Backoff::succeeded`], so that many at once are no
    /// way around.
    pub(crate) fn begin(&self, account: &str, now_ms: u64) -> Result<(), u64> {
        let mut accounts = self.0.lock().expect("no holder of this lock panics");
        let known = accounts.get(account).copied();
        let failures = known
            .filter(|f| now_ms < f.until_ms.saturating_add(FORGET_AFTER_MS))
            .unwrap_or(Failures { count: 0, until_ms: 0 });
        if now_ms < failures.until_ms {
            return Err(failures.until_ms - now_ms);
        }
        if known.is_none() && accounts.len() >= MAX_ACCOUNTS {
            let soonest = accounts.iter().min_by_key(|(_, f)| f.until_ms).map(|(a, _)| a.clone());
            soonest.map(|account| accounts.remove(&account));
        }
        let wait_ms =
            1_000u64.checked_shl(failures.count).map_or(MAX_WAIT_MS, |ms| ms.min(MAX_WAIT_MS));
        let count = (failures.count + 1).min(20);
        accounts.insert(account.to_owned(), Failures { count, until_ms: now_ms + wait_ms });
        Ok(())
    }

    /// The try was good: the account starts afresh.
    pub(crate) fn succeeded(&self, account: &str) {
        self.0.lock().expect("no holder of this lock panics").remove(account);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_wait_up_to_a_quarter_of_an_hour() {
        let backoff = Backoff::default();
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert_eq!(backoff.begin("a", now), Ok(()));
            let wait = backoff.begin("a", now).unwrap_err();
            waits.push(wait / 1_000);
            now += wait;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        assert_eq!(backoff.begin("b", now), Ok(()), "others do not wait");
        assert_eq!(backoff.begin("a", now), Ok(()));
        backoff.succeeded("a");
        assert_eq!(backoff.begin("a", now), Ok(()));
        assert_eq!(backoff.begin("a", now), Err(1_000), "a success starts afresh");
    }

    #[test]
    fn a_flood_of_accounts_is_bounded() {
        let backoff = Backoff::default();
        for n in 0..MAX_ACCOUNTS as u64 + 10 {
            assert_eq!(backoff.begin(&n.to_string(), n), Ok(()));
        }
        assert_eq!(backoff.0.lock().unwrap().len(), MAX_ACCOUNTS);
    }
}
