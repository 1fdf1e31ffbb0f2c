//! Failed logins make whoever tries wait: 1 s after the first, twice as long after each further one, at most 15 minutes,
//! and never for ever. What counts is the account together with the source of the try, so that strangers keep nobody out
//! by failing elsewhere. An account alone has a much softer bound, against tries from very many sources; a source from
//! which the account has been used before is not held by it. Unknown accounts wait in the same way, so that waiting
//! tells nothing.

use std::{collections::HashMap, sync::Mutex};

use protocol::id::UserId;
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
    sources: Mutex<HashMap<(Account, Source), Failures>>,
    /// Until when an account's failures count, each for [`REFILL_MS`].
    accounts: Mutex<HashMap<Account, u64>>,
}

/// What is tried. Each kind is counted apart: strangers choose the address that they log in with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Account {
    /// An e-mail address, known or not.
    Login(String),
    /// The password of somebody who has logged in.
    Password(UserId),
    /// The secret of a link.
    Link,
}

/// A try that was let through. It counts as failed, so that many at once are no way around, until it is said to have
/// succeeded or is taken back.
#[derive(Debug)]
#[must_use]
pub(crate) struct Try<'a> {
    backoff: &'a Backoff,
    key: (Account, Source),
    before: Option<Failures>,
    after: Failures,
    is_charged: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failures {
    count: u32,
    until_ms: u64,
}

impl Backoff {
    /// Takes a try. Refuses it, with the milliseconds to wait, while the source has to wait for this account.
    pub(crate) fn begin(
        &self,
        account: Account,
        source: Source,
        now_ms: u64,
    ) -> Result<Try<'_>, u64> {
        let mut sources = self.sources.lock().expect("no holder of this lock panics");
        let key = (account, source);
        let before = sources.get(&key).copied();
        let failures = before
            .filter(|f| now_ms < f.until_ms.saturating_add(FORGET_AFTER_MS))
            .unwrap_or(Failures { count: 0, until_ms: 0 });
        if now_ms < failures.until_ms {
            return Err(failures.until_ms - now_ms);
        }
        if before.is_none() && sources.len() >= MAX_REMEMBERED {
            let soonest =
                sources.iter().min_by_key(|(_, f)| f.until_ms).map(|(key, _)| key.clone());
            soonest.map(|key| sources.remove(&key));
        }
        let wait_ms =
            1_000u64.checked_shl(failures.count).map_or(MAX_WAIT_MS, |ms| ms.min(MAX_WAIT_MS));
        let count = (failures.count + 1).min(20);
        let after = Failures { count, until_ms: now_ms + wait_ms };
        sources.insert(key.clone(), after);
        Ok(Try { backoff: self, key, before, after, is_charged: false })
    }

    fn charge(&self, account: &Account, now_ms: u64) -> Result<(), u64> {
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
        accounts.insert(account.clone(), until_ms);
        Ok(())
    }
}

impl Try<'_> {
    /// The account has not been used from this source. Refuses the try, with the milliseconds to wait, after very many
    /// failures from everywhere; then it is no failure of the source.
    pub(crate) fn charge_account(mut self, now_ms: u64) -> Result<Self, u64> {
        match self.backoff.charge(&self.key.0, now_ms) {
            Ok(()) => {
                self.is_charged = true;
                Ok(self)
            }
            Err(wait_ms) => {
                self.take_back();
                Err(wait_ms)
            }
        }
    }

    /// The source starts afresh, and the account has one failure less.
    pub(crate) fn succeeded(self) {
        self.backoff.sources.lock().expect("no holder of this lock panics").remove(&self.key);
        self.discharge();
    }

    /// Nothing was checked: all is as before, unless another try has come meanwhile.
    pub(crate) fn take_back(self) {
        let mut sources = self.backoff.sources.lock().expect("no holder of this lock panics");
        if sources.get(&self.key) == Some(&self.after) {
            match self.before {
                Some(before) => sources.insert(self.key.clone(), before),
                None => sources.remove(&self.key),
            };
        }
        drop(sources);
        self.discharge();
    }

    fn discharge(self) {
        if self.is_charged {
            let mut accounts = self.backoff.accounts.lock().expect("no holder of this lock panics");
            if let Some(until_ms) = accounts.get_mut(&self.key.0) {
                *until_ms = until_ms.saturating_sub(REFILL_MS);
            }
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

    fn login(account: &str) -> Account {
        Account::Login(account.to_owned())
    }

    /// The wait after a try that was refused.
    fn wait(backoff: &Backoff, account: &str, n: u32, now_ms: u64) -> Option<u64> {
        backoff.begin(login(account), source(n), now_ms).err()
    }

    #[test]
    fn each_failure_doubles_the_wait_up_to_a_quarter_of_an_hour() {
        let backoff = Backoff::default();
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert_eq!(wait(&backoff, "a", 1, now), None);
            let ms = wait(&backoff, "a", 1, now).unwrap();
            waits.push(ms / 1_000);
            now += ms;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        assert_eq!(wait(&backoff, "b", 1, now), None, "other accounts do not wait");
        assert_eq!(wait(&backoff, "a", 2, now), None, "other sources do not wait");
        backoff.begin(login("a"), source(1), now).unwrap().succeeded();
        assert_eq!(wait(&backoff, "a", 1, now), None);
        assert_eq!(wait(&backoff, "a", 1, now), Some(1_000), "a success starts afresh");
    }

    #[test]
    fn a_try_that_is_taken_back_changes_nothing() {
        let backoff = Backoff::default();
        assert_eq!(wait(&backoff, "a", 1, 0), None);
        assert_eq!(wait(&backoff, "a", 1, 1_000), None);
        backoff.begin(login("a"), source(1), 3_000).unwrap().take_back();
        assert_eq!(wait(&backoff, "a", 1, 3_000), None, "nobody waits for it");
        assert_eq!(wait(&backoff, "a", 1, 3_000), Some(4_000), "the two before still count");
        backoff.begin(login("b"), source(1), 0).unwrap().take_back();
        assert!(backoff.sources.lock().unwrap().get(&(login("b"), source(1))).is_none());
        // One that comes meanwhile stays.
        let early = backoff.begin(login("c"), source(1), 0).unwrap();
        assert_eq!(wait(&backoff, "c", 1, 1_000), None);
        early.take_back();
        assert_eq!(wait(&backoff, "c", 1, 1_000), Some(2_000));
    }

    #[test]
    fn an_account_has_a_soft_bound_of_its_own() {
        let backoff = Backoff::default();
        let from = |n, account: &str, now_ms| {
            backoff.begin(login(account), source(n), now_ms).unwrap().charge_account(now_ms)
        };
        for n in 0..ACCOUNT_FAILURES as u32 {
            assert!(from(n, "a", 0).is_ok(), "{n}");
        }
        assert_eq!(from(1_000, "a", 0).err(), Some(REFILL_MS));
        assert_eq!(from(1_000, "a", 0).err(), Some(REFILL_MS), "it was no failure of the source");
        assert!(from(1_000, "b", 0).is_ok());
        assert!(from(1_001, "a", REFILL_MS).is_ok());
        assert_eq!(from(1_002, "a", REFILL_MS).err(), Some(REFILL_MS));
        backoff.begin(login("a"), source(1_003), REFILL_MS).unwrap().succeeded();
        assert_eq!(from(1_004, "a", REFILL_MS).err(), Some(REFILL_MS), "it was not charged");
        from(1_005, "a", 2 * REFILL_MS).unwrap().succeeded();
        assert!(from(1_006, "a", 2 * REFILL_MS).is_ok(), "a success counts for nothing");
        from(1_007, "a", 3 * REFILL_MS).unwrap().take_back();
        assert!(from(1_007, "a", 3 * REFILL_MS).is_ok(), "what is taken back neither");
    }

    #[test]
    fn what_strangers_name_is_no_account_of_another_kind() {
        let (backoff, user) = (Backoff::default(), UserId::from_bytes([1; 16]));
        for name in ["link", &format!("password of {user}"), &user.to_string()] {
            assert_eq!(wait(&backoff, name, 1, 0), None);
        }
        assert!(backoff.begin(Account::Link, source(1), 0).is_ok());
        assert!(backoff.begin(Account::Password(user), source(1), 0).is_ok());
    }

    #[test]
    fn a_flood_of_accounts_is_bounded() {
        let backoff = Backoff::default();
        for n in 0..MAX_REMEMBERED as u64 + 10 {
            let begun = backoff.begin(login(&n.to_string()), source(1), n).unwrap();
            assert!(begun.charge_account(n).is_ok());
        }
        assert_eq!(backoff.sources.lock().unwrap().len(), MAX_REMEMBERED);
        assert_eq!(backoff.accounts.lock().unwrap().len(), MAX_REMEMBERED);
    }
}
