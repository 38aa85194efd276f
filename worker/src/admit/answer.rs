//! The answer of a run, kept until its shim has it.

use bytes::Bytes;
use longshore_proto::call::RemoteBody;
use longshore_proto::frame::{CallRef, Reply};
use longshore_proto::limits::INLINE_BYTES;
use longshore_proto::{Body, CallError, RunResponse, subject};
use longshore_service::nats::{RouteGuard, Routes};

use super::Route;
use crate::job::GuestResponse;

/// What is sent, and sent again when a question finds it unacknowledged.
pub(super) struct KeptAnswer {
    /// The send's reply subject.
    pub(super) reply: String,
    /// The frame, without the free count of its moment.
    pub(super) frame: Reply,
    /// Serves the body while the answer is kept.
    _body: Option<RouteGuard<Route>>,
}

impl KeptAnswer {
    /// The answer to a call, and what keeping it costs in bytes. A message above 512 KiB leaves its body here.
    pub(super) fn new(
        worker: longshore_proto::BootId,
        routes: &Routes<Route>,
        call: CallRef,
        reply: String,
        result: Result<GuestResponse, CallError>,
    ) -> (Self, usize) {
        let response = match result {
            Ok(response) => response,
            Err(error) => {
                let bytes = error.message.len() + 128;
                return (Self { reply, frame: Reply::Failed { call, error }, _body: None }, bytes);
            }
        };
        let bytes = weight(&response);
        let GuestResponse { status, headers, body, trailers } = response;
        let (body, guard) = if bytes > INLINE_BYTES {
            leave_here(worker, routes, call, body)
        } else {
            (Body::inline(body), None)
        };
        let response = Box::new(RunResponse { status, headers, body, trailers });
        (Self { reply, frame: Reply::Result { call, response }, _body: guard }, bytes)
    }
}

fn leave_here(
    worker: longshore_proto::BootId,
    routes: &Routes<Route>,
    call: CallRef,
    body: Option<Bytes>,
) -> (Body, Option<RouteGuard<Route>>) {
    let Some(bytes) = body else { return (Body::None, None) };
    let len = bytes.len() as u64;
    let guard = routes.add(Route::Body(call, bytes));
    let source = subject::worker_inbox(worker, guard.token());
    (Body::Remote(RemoteBody { source, len }), Some(guard))
}

fn weight(response: &GuestResponse) -> usize {
    let pairs = response.headers.iter().chain(&response.trailers);
    let headers: usize = pairs.map(|(name, value)| name.len() + value.len() + 8).sum();
    headers + response.body.as_ref().map_or(0, Bytes::len) + 128
}

#[cfg(test)]
mod tests {
    use longshore_proto::{BootId, ExecutionId, SendNo};

    use super::*;

    fn answer(bytes: usize) -> (KeptAnswer, Routes<Route>) {
        let routes = Routes::default();
        let call = CallRef { execution: ExecutionId::random(), send: SendNo(1) };
        let body = Some(Bytes::from(vec![7; bytes]));
        let response = GuestResponse { status: 200, headers: Vec::new(), body, trailers: Vec::new() };
        let (kept, weight) =
            KeptAnswer::new(BootId::random(), &routes, call, "_R.shim.a.b".into(), Ok(response));
        assert!(weight >= bytes);
        (kept, routes)
    }

    #[test]
    fn a_small_body_travels_in_the_frame() {
        let (kept, routes) = answer(INLINE_BYTES - 1_000);
        assert!(
            matches!(kept.frame, Reply::Result { ref response, .. } if matches!(response.body, Body::Inline(_)))
        );
        assert!(routes.is_empty());
    }

    #[test]
    fn a_large_body_stays_here_until_the_answer_is_dropped() {
        let (kept, routes) = answer(INLINE_BYTES + 1);
        let Reply::Result { response, .. } = &kept.frame else { panic!("a result") };
        let Body::Remote(remote) = &response.body else { panic!("remote") };
        assert_eq!(remote.len, INLINE_BYTES as u64 + 1);
        let token = subject::inbox_token(&remote.source).unwrap();
        assert!(routes.get(token).is_some());
        drop(kept);
        assert!(routes.get(token).is_none());
    }
}
