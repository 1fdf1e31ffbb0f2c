//! The task that sends a request's body while its response is awaited and read. The two directions of
//! a stream are independent, so neither may wait for the other.

use tokio_util::task::AbortOnDropHandle;

use crate::error::LinkError;

/// Owns the task; dropping it ends the task, and with it the stream's sending direction.
#[derive(Debug)]
pub(crate) struct Sender(AbortOnDropHandle<Result<(), LinkError>>);

impl Sender {
    pub(crate) fn spawn(
        sending: impl Future<Output = Result<(), LinkError>> + Send + 'static,
    ) -> Self {
        Self(AbortOnDropHandle::new(tokio::spawn(sending)))
    }

    /// Resolves only if the request's own body failed. What the peer did to this direction shows in
    /// the response as well.
    pub(crate) async fn body_failure(&mut self) -> LinkError {
        match (&mut self.0).await {
            Ok(Err(error @ LinkError::Body(_))) => error,
            Ok(_) | Err(_) => std::future::pending().await,
        }
    }

    /// Why sending ended. To be asked once it is known to have ended early.
    pub(crate) async fn failure(&mut self) -> LinkError {
        match (&mut self.0).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => LinkError::Cancelled,
        }
    }
}
