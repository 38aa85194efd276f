//! What a caller of `/api/ext` gets: the extension's answer with a real status, or words in JSON that say why not.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER, VARY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use longshore_proto::{CallError, ErrorCode, ExecutionId};
use tokio::sync::mpsc;

use super::headers::Allowed;
use super::status::{gateway_status, retryable};
use crate::dispatch::{Answer, AnswerBody};
use crate::http::budget::Held;
use crate::http::record::{Ended, Record};
use crate::http::{EXECUTION_ID, ReplyLost};

/// The header that names the request.
pub(crate) const REQUEST_ID: &str = "x-request-id";

/// What an extension answers shares the gateway's origin, perhaps a whole application's. Opened as a page, it gets an origin of its
/// own and runs nothing.
const SANDBOX: &str = "default-src 'none'; sandbox";

/// One request's answer in the making.
pub(crate) struct Replying {
    pub execution: ExecutionId,
    pub request_id: String,
    pub record: Record,
    /// The caller sent `HEAD`.
    pub head_only: bool,
}

impl Replying {
    /// What every answer carries.
    fn response(&self, status: u16) -> Response<()> {
        let mut response = Response::new(());
        // Statuses are 200 to 599 here.
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX));
        for (name, value) in
            [(REQUEST_ID, self.request_id.as_str()), (EXECUTION_ID, &self.execution.to_string())]
        {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        response
    }

    /// An error. `safe_call`: the call may run twice.
    pub(crate) fn failed(self, error: &CallError, safe_call: bool) -> Response<ReplyBody> {
        let status = gateway_status(error.code);
        let mut response = self.response(status);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = error.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if error.code == ErrorCode::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"longshore\""));
        }
        let message = if error.message.is_empty() { error.code.as_str() } else { &error.message };
        let text = serde_json::json!({
            "code": error.code.as_str(),
            "message": message,
            "request_id": self.request_id,
            "retryable": retryable(error.code, safe_call),
        });
        let body = Bytes::from(text.to_string());
        self.record.end(Ended::Told(error.code, status));
        if self.head_only {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
            return response.map(|()| ReplyBody(Inner::Empty));
        }
        response.map(|()| ReplyBody(Inner::Full(Some(body), None)))
    }

    /// A request that is answered here, without a body.
    pub(crate) fn empty(self, allow: Option<&[&str]>) -> Response<ReplyBody> {
        let mut response = self.response(StatusCode::NO_CONTENT.as_u16());
        if let Some(Ok(allow)) = allow.map(|methods| HeaderValue::try_from(methods.join(", "))) {
            response.headers_mut().insert(ALLOW, allow);
        }
        self.record.end(Ended::Answer(StatusCode::NO_CONTENT.as_u16()));
        response.map(|()| ReplyBody(Inner::Empty))
    }

    /// The extension's answer. `held` grows to what it takes and is given back with its last byte.
    pub(crate) fn answered(
        self,
        answer: Answer,
        allowed: &Allowed,
        mut held: Held,
        safe_call: bool,
    ) -> Response<ReplyBody> {
        // The worker has checked it; what no client could read must not pass even if it has not.
        if !(200..600).contains(&answer.status) {
            let message = format!("the extension answered with status {}", answer.status);
            return self.failed(&CallError::new(ErrorCode::InvalidResponse, message), safe_call);
        }
        let passed = match allowed.of_answer(&answer.headers) {
            Ok(passed) => passed,
            Err(error) => return self.failed(&error, safe_call),
        };
        let mut response = self.response(answer.status);
        let headers = response.headers_mut();
        headers.extend(passed);
        if headers.get(CACHE_CONTROL).is_some_and(|value| value != "no-store") {
            // The caller's own cache may hold it: for this credential, and for what the extension may have looked at.
            headers.insert(
                VARY,
                HeaderValue::from_static("authorization, accept, accept-encoding, accept-language"),
            );
        }
        let len = match &answer.body {
            AnswerBody::Full(body) => body.as_ref().map(|body| body.len() as u64),
            AnswerBody::Stream { len, .. } => Some(*len),
        };
        // 205 is among them: RFC 9110 15.3.6.
        let no_body = matches!(answer.status, 204 | 205 | 304);
        if len.is_some_and(|len| len > 0) && !no_body && !headers.contains_key(CONTENT_TYPE) {
            // Otherwise browsers guess, nosniff or not.
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        }
        if no_body || self.head_only {
            if let (false, Some(len)) = (no_body, len) {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
            }
            self.record.end(Ended::Answer(answer.status));
            return response.map(|()| ReplyBody(Inner::Empty));
        }
        match answer.body {
            AnswerBody::Full(body) => {
                let body = body.unwrap_or_default();
                held.set(body.len());
                self.record.end(Ended::Answer(answer.status));
                response.map(|()| ReplyBody(Inner::Full(Some(body), Some(held))))
            }
            AnswerBody::Stream { len, parts } => {
                // The parts on their way are bounded by the dispatcher.
                held.set(0);
                let ended = Ended::Answer(answer.status);
                let stream = Streamed { parts, len, got: 0, ended, record: Some(self.record) };
                response.map(|()| ReplyBody(Inner::Stream(stream)))
            }
        }
    }
}

/// The body of an answer.
pub(crate) struct ReplyBody(Inner);

enum Inner {
    /// None; its length is left open, because the one of a `HEAD` is not 0.
    Empty,
    /// All of it; what it takes is held until it is dropped.
    Full(Option<Bytes>, #[expect(dead_code, reason = "held, not read")] Option<Held>),
    Stream(Streamed),
}

/// A body that still arrives from the worker. It ends after `len` bytes or with an error, which resets the connection: a
/// complete answer is always a whole one.
struct Streamed {
    parts: mpsc::Receiver<Result<Bytes, CallError>>,
    len: u64,
    got: u64,
    ended: Ended,
    record: Option<Record>,
}

impl Streamed {
    fn end(&mut self, ended: Ended) {
        if let Some(record) = self.record.take() {
            record.end(ended);
        }
    }

    fn lose(&mut self, why: ReplyLost) -> Poll<Option<Result<Frame<Bytes>, ReplyLost>>> {
        self.end(Ended::Reset);
        Poll::Ready(Some(Err(why)))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReplyLost>>> {
        if self.record.is_none() {
            return Poll::Ready(None);
        }
        match std::task::ready!(self.parts.poll_recv(cx)) {
            Some(Ok(part)) => {
                self.got += part.len() as u64;
                if self.got > self.len {
                    return self.lose(ReplyLost::Length { len: self.len, got: self.got });
                }
                if self.got == self.len {
                    // hyper asks no further once the announced length is reached.
                    self.end(self.ended);
                }
                Poll::Ready(Some(Ok(Frame::data(part))))
            }
            Some(Err(error)) => self.lose(ReplyLost::Lost(error)),
            None if self.got == self.len => {
                self.end(self.ended);
                Poll::Ready(None)
            }
            None => self.lose(ReplyLost::Length { len: self.len, got: self.got }),
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = ReplyLost;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReplyLost>>> {
        match &mut self.get_mut().0 {
            Inner::Empty => Poll::Ready(None),
            Inner::Full(body, _) => {
                Poll::Ready(body.take().filter(|b| !b.is_empty()).map(|b| Ok(Frame::data(b))))
            }
            Inner::Stream(stream) => stream.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Empty => true,
            Inner::Full(body, _) => body.as_ref().is_none_or(Bytes::is_empty),
            Inner::Stream(stream) => stream.record.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Empty => SizeHint::default(),
            Inner::Full(body, _) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Inner::Stream(stream) => SizeHint::with_exact(stream.len.saturating_sub(stream.got)),
        }
    }
}
