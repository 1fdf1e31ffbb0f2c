//! One host, several addresses: which of them answers? They are tried in the resolver's order, each
//! joining in when the one before has failed or has been silent for a moment (the idea of RFC 8305).

use std::time::Duration;

use futures_util::{StreamExt as _, stream::FuturesUnordered};

/// Tries `addresses` until one attempt succeeds; the others are dropped. The next one begins when one
/// has failed, or after `patience`.
///
/// # Errors
/// The last failure; `None` if there was no address.
pub(crate) async fn race<A, T, E, F>(
    addresses: impl IntoIterator<Item = A>,
    patience: Duration,
    mut attempt: impl FnMut(A) -> F,
) -> Result<T, Option<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut addresses = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut last_failure = None;
    loop {
        let next = addresses.next();
        let has_next = next.is_some();
        running.extend(next.map(&mut attempt));
        let deadline = tokio::time::sleep(patience);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                result = running.next() => match result {
                    Some(Ok(won)) => return Ok(won),
                    Some(Err(failure)) => {
                        last_failure = Some(failure);
                        if has_next {
                            break;
                        }
                    }
                    None => return Err(last_failure),
                },
                () = &mut deadline, if has_next => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(250);

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_holds_the_others_up_for_a_moment_only() {
        let start = tokio::time::Instant::now();
        let won = race([1, 2, 3], PATIENCE, |n| async move {
            if n < 3 { pending().await } else { Ok::<_, ()>(n) }
        });
        assert_eq!(won.await, Ok(3));
        assert_eq!(start.elapsed(), 2 * PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_brings_the_next_address_at_once() {
        let start = tokio::time::Instant::now();
        let won = race([1, 2], PATIENCE, |n| async move { if n == 1 { Err("no") } else { Ok(n) } });
        assert_eq!(won.await, Ok(2));
        assert_eq!(start.elapsed(), Duration::ZERO);
        let lost = race([1, 2], PATIENCE, |n| async move { Err::<(), _>(n) });
        assert_eq!(lost.await, Err(Some(2)));
        assert_eq!(race([], PATIENCE, |()| async { Err::<(), ()>(()) }).await, Err(None));
    }
}
