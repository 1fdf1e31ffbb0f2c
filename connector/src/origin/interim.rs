//! 1xx responses on their way from an origin's connection to the request that they are for.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard},
    task::{Poll, Waker},
};

use http::{Request, Response};
use protocol::{fields, framing};

/// Responses that may wait; more than that is no progress report.
const MAX: usize = 8;

/// A queue between two tasks. Almost every one stays empty, so it is made to cost nothing until then.
#[derive(Clone, Default)]
pub(super) struct Interim(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    responses: VecDeque<Response<()>>,
    reader: Option<Waker>,
}

impl Interim {
    /// Has the responses to this request put here.
    pub(super) fn listen<B>(&self, request: &mut Request<B>) {
        let queue = self.clone();
        hyper::ext::on_informational(request, move |head| {
            let mut response = Response::new(());
            *response.status_mut() = head.status();
            *response.headers_mut() = head.headers().clone();
            fields::strip(response.headers_mut());
            // HTTP/2 would take a length here for that of the answer.
            framing::drop_content(response.headers_mut());
            queue.put(response);
        });
    }

    /// Adds a response. Where the edge does not take them as fast as they come, it is dropped.
    fn put(&self, response: Response<()>) {
        let mut queue = self.queue();
        if queue.responses.len() < MAX {
            queue.responses.push_back(response);
        }
        if let Some(reader) = queue.reader.take() {
            reader.wake();
        }
    }

    /// The next response. Cancel-safe; for one reader.
    pub(super) async fn next(&self) -> Response<()> {
        poll_fn(|cx| {
            let mut queue = self.queue();
            if let Some(response) = queue.responses.pop_front() {
                return Poll::Ready(response);
            }
            if !queue.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
                queue.reader = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().expect("no panic while locked")
    }
}
