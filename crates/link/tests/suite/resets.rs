//! Requests and answers that clients give up end alone: what else is under way on the link goes on.

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use link::{BoxError, Exchange, Session};
use protocol::presence::Transport;
use tokio::sync::mpsc;

use crate::{
    over_both_carriers,
    world::{Serving, World, channel, empty, full, ignore, patiently, send_whole},
};

over_both_carriers!(
    requests_that_are_given_up_at_once_harm_no_other,
    downloads_that_are_given_up_harm_no_other,
);

fn request(method: Method) -> Request<crate::world::TestBody> {
    Request::builder().method(method).uri("http://wiki.corp/").body(empty()).unwrap()
}

/// A GET is a download in many pieces; a POST is echoed; a HEAD is answered when the edge has given it up.
async fn answer(mut exchange: Exchange) {
    match *exchange.request.method() {
        Method::GET => {
            let pieces = futures_util::stream::repeat_with(|| {
                Ok::<_, BoxError>(Frame::data(Bytes::from_static(&[0; 1024])))
            });
            let pieces = futures_util::StreamExt::take(pieces, 256);
            drop(exchange.reply.send(Response::new(StreamBody::new(pieces))).await);
        }
        Method::POST => {
            drop(exchange.reply.send(Response::new(exchange.request.into_body())).await);
        }
        _ => exchange.reply.cancelled().await,
    }
}

type Pieces = mpsc::Sender<Result<Frame<Bytes>, BoxError>>;

/// Somebody else's exchange on the same link, from before until after.
struct Witness {
    pieces: Pieces,
    answer: link::Body,
}

impl Witness {
    async fn new(session: &Session) -> Self {
        let (pieces, body) = channel();
        let request = Request::post("http://wiki.corp/").body(body).unwrap();
        let (answer, ()) = patiently(async {
            tokio::join!(send_whole(session, request, ignore), async {
                pieces.send(Ok(Frame::data(Bytes::from_static(b"before")))).await.unwrap();
            })
        })
        .await;
        let mut witness = Self { pieces, answer: answer.unwrap().into_body() };
        assert_eq!(witness.hear().await, "before");
        witness
    }

    async fn hear(&mut self) -> Bytes {
        patiently(self.answer.frame()).await.unwrap().unwrap().into_data().unwrap()
    }

    async fn goes_on_unharmed(mut self, session: &Session) {
        self.pieces.send(Ok(Frame::data(Bytes::from_static(b"after")))).await.unwrap();
        assert_eq!(self.hear().await, "after");
        drop(self.pieces);
        assert!(patiently(self.answer.frame()).await.is_none());
        let request = Request::post("http://wiki.corp/").body(full("new")).unwrap();
        let answer = patiently(send_whole(session, request, ignore)).await.unwrap();
        assert_eq!(patiently(answer.collect()).await.unwrap().to_bytes(), "new");
    }
}

async fn world(transport: Transport) -> (Session, Serving) {
    World::serving(transport, answer).await
}

async fn requests_that_are_given_up_at_once_harm_no_other(transport: Transport) {
    let (session, _serving) = world(transport).await;
    let witness = Witness::new(&session).await;
    for _ in 0..20 {
        let mut requests: Vec<_> = (0..200)
            .map(|_| {
                let session = session.clone();
                Box::pin(async move { send_whole(&session, request(Method::HEAD), ignore).await })
            })
            .collect();
        for request in &mut requests {
            assert!(request.now_or_never().is_none(), "nobody answers");
        }
        // The heads leave, and before the connector has its turn the resets follow.
        tokio::task::yield_now().await;
    }
    witness.goes_on_unharmed(&session).await;
}

async fn downloads_that_are_given_up_harm_no_other(transport: Transport) {
    let (session, _serving) = world(transport).await;
    let witness = Witness::new(&session).await;
    for _ in 0..500 {
        let answer = patiently(send_whole(&session, request(Method::GET), ignore)).await.unwrap();
        let mut body = answer.into_body();
        patiently(body.frame()).await.unwrap().unwrap();
    }
    witness.goes_on_unharmed(&session).await;
}
