//! The feed: a snapshot, then changes as they happen, and a sign of life in between. It is written as
//! fast as the edge reads; what happens meanwhile is in the next message, which the database makes up
//! from the generations.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, Response, Uri, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use protocol::{
    feed::{ALIVE_EVERY_MS, FeedMessage, MAX_LINE},
    id::EdgeId,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Body;
use crate::{api::problem::Problem, app::Shared, store};

struct Feed {
    app: Shared,
    edge: EdgeId,
    /// What the edge knows; 0 if nothing.
    after: u64,
    /// The first line comes at once, whatever there is to say.
    is_first: bool,
    news: watch::Receiver<u64>,
    stop: CancellationToken,
}

pub(super) fn handle(
    app: Shared,
    edge: EdgeId,
    uri: &Uri,
    stop: CancellationToken,
) -> Result<Response<Body>, Problem> {
    let after = after(uri)?;
    let news = app.store.generation();
    tracing::info!(edge = %edge, after, "an edge reads the feed");
    let feed = Feed { app, edge, after, is_first: true, news, stop };
    let lines = stream::unfold(feed, |mut feed| async move {
        let line = feed.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(line)), feed))
    });
    let mut response = Response::new(StreamBody::new(lines.boxed()).boxed_unsync());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jsonl"));
    Ok(response)
}

fn after(uri: &Uri) -> Result<u64, Problem> {
    let Some(query) = uri.query() else { return Ok(0) };
    query
        .strip_prefix("after=")
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| Problem::invalid("the query must be after=GENERATION"))
}

impl Feed {
    /// The next line; `None` ends the feed.
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::take(&mut self.is_first) {
            let news = self.news.wait_for(|newest| *newest > self.after);
            // Without news the database is asked all the same: another process may have written.
            let news = tokio::time::timeout(Duration::from_millis(ALIVE_EVERY_MS), news);
            let _ = self.stop.run_until_cancelled(news).await?;
        }
        let message = match self.message().await {
            Ok(Some(message)) => message,
            Ok(None) => {
                tracing::info!(edge = %self.edge, "the feed of a removed edge ends");
                return None;
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(edge = %self.edge, error, "the feed could not be read");
                return None;
            }
        };
        let mut line = serde_json::to_vec(&message).expect("feed messages have string keys");
        line.push(b'\n');
        if line.len() > MAX_LINE {
            tracing::error!(edge = %self.edge, bytes = line.len(), "the feed has outgrown its limit");
            return None;
        }
        Some(line.into())
    }

    /// What there is to say; nothing to an edge that was removed.
    async fn message(&mut self) -> store::Result<Option<FeedMessage>> {
        let known = self.app.store.reconcile().await?;
        if self.after == known {
            return Ok(Some(FeedMessage::Alive { generation: known }));
        }
        let mut db = self.app.store.read().await?;
        if store::edge::find(&mut db, self.edge).await?.is_none() {
            return Ok(None);
        }
        let now_ms = self.app.clock.now_ms();
        let message = if self.after < self.app.store.first_generation() {
            store::feed::snapshot(&mut db, now_ms).await?
        } else {
            store::feed::changes(&mut db, self.after, now_ms).await?
        };
        if let FeedMessage::Snapshot { generation, .. } | FeedMessage::Change { generation, .. } =
            &message
        {
            self.after = *generation;
        }
        Ok(Some(message))
    }
}
