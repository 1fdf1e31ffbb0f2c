//! Runs the corpus over one way after the other.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    client,
    corpus::{Audience, Case},
    expect,
    origin::Origin,
    script::{self, Names},
    way::Way,
};

/// Cases that are under way together.
const AT_ONCE: usize = 32;
/// After all cases of a way: a request that should not have gone anywhere gets so long to arrive. The
/// corpus cannot wait for something that must not come.
const SETTLED: Duration = Duration::from_millis(500);

/// What came of a case over one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As the standard says.
    Same,
    /// Otherwise, and how.
    Differs(String),
    /// This way cannot be asked.
    Unasked,
}

/// Runs the cases over a way, each with the origin of the same place.
///
/// # Errors
/// If a case is not understood.
pub async fn corpus(cases: &[Case], origins: &[Origin], way: &Way) -> anyhow::Result<Vec<Verdict>> {
    let asked = stream::iter(cases.iter().zip(origins).enumerate())
        .map(|(n, (case, origin))| ask(n, case, origin, way))
        .buffered(AT_ONCE);
    let got: Vec<_> = asked.try_collect().await?;
    tokio::time::sleep(SETTLED).await;
    let mut verdicts = Vec::new();
    for (n, ((case, origin), got)) in cases.iter().zip(origins).zip(got).enumerate() {
        let Some(got) = got else {
            verdicts.push(Verdict::Unasked);
            continue;
        };
        let (address, id) = (origin.address.to_string(), format!("{n:04}"));
        let names = Names { origin: &address, credentials: None, id: &id };
        let seen = origin.seen();
        let mut nearest: Option<String> = None;
        for outcome in &case.outcomes {
            let difference = expect::differs(outcome, &seen, &got, &names, way.kind.is_postern())?;
            let Some(difference) = difference else {
                nearest = None;
                break;
            };
            // The outcome of which the origin's part is there says best what is amiss.
            let is_near = nearest.as_ref().is_some_and(|nearest| !nearest.starts_with("origin:"));
            nearest = if is_near {
                nearest
            } else {
                Some(nearest.filter(|_| difference.starts_with("origin:")).unwrap_or(difference))
            };
        }
        verdicts.push(nearest.map_or(Verdict::Same, Verdict::Differs));
    }
    Ok(verdicts)
}

async fn ask(
    n: usize,
    case: &Case,
    origin: &Origin,
    way: &Way,
) -> anyhow::Result<Option<client::Got>> {
    if case.audience == Audience::Proxies && !way.kind.is_postern() {
        return Ok(None);
    }
    let (address, id) = (origin.address.to_string(), format!("{n:04}"));
    let names = Names { origin: &address, credentials: way.credentials.as_deref(), id: &id };
    let at = |what: &str| format!("{}: {what}", case.name);
    let steps = |text: &str| script::read(text, &names).map_err(|error| error.context(at(text)));
    origin.prepare(&steps(&case.answer)?);
    Ok(Some(client::run(way.door(n), &steps(&case.client)?, &case.methods()).await))
}
