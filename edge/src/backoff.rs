//! How long to wait before the control plane is dialled again: full jitter, so that a fleet of edges
//! does not come back all at once.

use std::time::Duration;

/// The first wait is drawn from zero up to this.
const FIRST: Duration = Duration::from_millis(100);
/// No wait is longer: the control plane's return should be noticed soon.
const LONGEST: Duration = Duration::from_secs(5);

/// Waits that grow from attempt to attempt.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// It worked: the next failure is a first one again.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The next wait; `random` is drawn from `0.0..1.0`.
    pub(crate) fn next(&mut self, random: f64) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << self.attempts.min(10)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        ceiling.mul_f64(random)
    }

    /// Sleeps for the next wait.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.next(rand::random())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_start_anew_after_success() {
        let mut backoff = Backoff::default();
        let ceilings: Vec<u128> = (0..8).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        backoff.reset();
        assert_eq!(backoff.next(0.5), FIRST / 2);
    }
}
