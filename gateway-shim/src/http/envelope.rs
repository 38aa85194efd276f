//! The envelope of an answer, whole or while its body still arrives, and the transport response around it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use longshore_proto::execute::HeaderValues;
use longshore_proto::{CallError, ErrorCode, ExecutionId};
use tokio::sync::mpsc;

use super::EXECUTION_ID;
use super::budget::Held;
use super::record::{Ended, Record};
use crate::dispatch::{Answer, AnswerBody};

/// A response of `/v1/execute` without its body: all of them carry these headers.
fn response(status: StatusCode, content_type: &'static str, execution: ExecutionId) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Hex digits are always a header value.
    if let Ok(id) = HeaderValue::try_from(execution.to_string()) {
        headers.insert(EXECUTION_ID, id);
    }
    response
}

/// An answer before there was a call: transport status and words.
pub(super) fn refused(
    status: StatusCode,
    text: String,
    execution: ExecutionId,
    record: Record,
) -> Response<ReplyBody> {
    record.end(Ended::Refused(status.as_u16()));
    response(status, "text/plain; charset=utf-8", execution).map(|()| ReplyBody::full(text + "\n", None))
}

/// The envelope of a failure: status 200, four keys.
pub(super) fn failed(error: &CallError, execution: ExecutionId, record: Record) -> Response<ReplyBody> {
    record.end(Ended::Failed(error.code));
    let mut response = response(StatusCode::OK, "application/json", execution);
    let mut headers = BTreeMap::from([(EXECUTION_ID, execution.to_string())]);
    if let Some(seconds) = error.retry_after_s {
        headers.insert("retry-after", seconds.to_string());
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    let envelope = serde_json::json!({
        "status": error.code.status(), "headers": headers, "body_b64": null, "error": error.to_string(),
    });
    response.map(|()| ReplyBody::full(envelope.to_string(), None))
}

/// The envelope of an answer. `held` grows to what the answer takes and is given back with the response's last byte.
pub(super) fn answered(
    answer: Answer,
    execution: ExecutionId,
    record: Record,
    mut held: Held,
) -> Response<ReplyBody> {
    // The worker has checked it; a response that existing callers cannot construct (interop 12.12) must not pass even
    // if it has not.
    if !(200..600).contains(&answer.status) {
        let message = format!("the extension answered with status {}", answer.status);
        return failed(&CallError::new(ErrorCode::InvalidResponse, message), execution, record);
    }
    let head = envelope_head(answer.status, answer.headers, answer.trailers, execution);
    let response = response(StatusCode::OK, "application/json", execution);
    let no_body = matches!(answer.status, 204 | 304);
    match answer.body {
        AnswerBody::Stream { len, parts } if !no_body => {
            held.set(head.len());
            let ended = Ended::Answer(answer.status);
            response.map(|()| {
                ReplyBody(Inner::Stream(Box::new(Streamed::new(head, len, parts, ended, record, held))))
            })
        }
        AnswerBody::Full(Some(body)) if !no_body => {
            let mut text = head;
            text.reserve_exact(base64_len(body.len() as u64) as usize + 4);
            text.push('"');
            BASE64.encode_string(&body, &mut text);
            text.push_str(TAIL);
            held.set(text.len());
            record.end(Ended::Answer(answer.status));
            response.map(|()| ReplyBody::full(text, Some(held)))
        }
        _ => {
            record.end(Ended::Answer(answer.status));
            response.map(|()| ReplyBody::full(head + "null}", Some(held)))
        }
    }
}

/// After the body's last base64 digit.
const TAIL: &str = "\"}";

/// Everything before the value of `body_b64`. Guests cannot name the execution: a header of ours from them is dropped.
fn envelope_head(
    status: u16,
    headers: Vec<(String, String)>,
    trailers: Vec<(String, String)>,
    execution: ExecutionId,
) -> String {
    let others = headers.into_iter().filter(|(name, _)| !name.eq_ignore_ascii_case(EXECUTION_ID));
    let mut headers = HeaderValues::collect(others);
    headers.insert(EXECUTION_ID.to_owned(), execution.to_string().into());
    // A map of strings is always JSON.
    let json = |map| serde_json::to_string(&map).unwrap_or_else(|_| "{}".to_owned());
    let trailers = match HeaderValues::collect(trailers) {
        none if none.is_empty() => String::new(),
        some => format!(r#""trailers":{},"#, json(some)),
    };
    format!(r#"{{"status":{status},"headers":{},{trailers}"error":null,"body_b64":"#, json(headers))
}

const fn base64_len(bytes: u64) -> u64 {
    bytes.div_ceil(3) * 4
}

/// Why a response ends before it is complete: the connection (HTTP/2: the stream) is reset.
#[derive(Debug, thiserror::Error)]
pub enum ReplyLost {
    /// The dispatcher lost the answer.
    #[error("the answer was lost while it was passed on")]
    Lost(#[source] CallError),
    /// The parts are not as long as announced.
    #[error("{got} bytes of a body of {len} came")]
    Length {
        /// Announced.
        len: u64,
        /// Received, when it was noticed.
        got: u64,
    },
}

/// The body of a response of `/v1/execute`.
pub(super) struct ReplyBody(Inner);

enum Inner {
    /// All of it; what it takes is held until it is dropped.
    Full(Option<Bytes>, #[expect(dead_code, reason = "held, not read")] Option<Held>),
    Stream(Box<Streamed>),
}

impl ReplyBody {
    fn full(text: String, held: Option<Held>) -> Self {
        Self(Inner::Full(Some(Bytes::from(text)), held))
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
            Inner::Full(text, _) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Inner::Stream(streamed) => streamed.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Full(text, _) => text.is_none(),
            Inner::Stream(streamed) => matches!(streamed.stage, Stage::Done),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.0 {
            Inner::Full(text, _) => text.as_ref().map_or(0, |text| text.len() as u64),
            Inner::Stream(streamed) => streamed.left,
        })
    }
}

enum Stage {
    Head(String),
    Parts,
    Done,
}

/// An answer whose body still arrives.
struct Streamed {
    stage: Stage,
    parts: mpsc::Receiver<Result<Bytes, CallError>>,
    encoder: Encoder,
    len: u64,
    got: u64,
    /// Bytes of the envelope not yet given: its content length at first.
    left: u64,
    ended: Ended,
    record: Option<Record>,
    _held: Held,
}

impl Streamed {
    fn new(
        mut head: String,
        len: u64,
        parts: mpsc::Receiver<Result<Bytes, CallError>>,
        ended: Ended,
        record: Record,
        held: Held,
    ) -> Self {
        head.push('"');
        let left = head.len() as u64 + base64_len(len) + TAIL.len() as u64;
        let stage = Stage::Head(head);
        Self {
            stage,
            parts,
            encoder: Encoder::default(),
            len,
            got: 0,
            left,
            ended,
            record: Some(record),
            _held: held,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReplyLost>>> {
        loop {
            match &mut self.stage {
                Stage::Head(head) => {
                    let head = std::mem::take(head);
                    self.stage = Stage::Parts;
                    return self.give(head);
                }
                Stage::Parts => match std::task::ready!(self.parts.poll_recv(cx)) {
                    Some(Ok(part)) => {
                        self.got += part.len() as u64;
                        if self.got > self.len {
                            return self.lose(ReplyLost::Length { len: self.len, got: self.got });
                        }
                        let text = self.encoder.feed(&part);
                        if !text.is_empty() {
                            return self.give(text);
                        }
                    }
                    Some(Err(error)) => return self.lose(ReplyLost::Lost(error)),
                    None if self.got == self.len => {
                        let mut text = self.encoder.finish();
                        text.push_str(TAIL);
                        self.stage = Stage::Done;
                        if let Some(record) = self.record.take() {
                            record.end(self.ended);
                        }
                        return self.give(text);
                    }
                    None => return self.lose(ReplyLost::Length { len: self.len, got: self.got }),
                },
                Stage::Done => return Poll::Ready(None),
            }
        }
    }

    fn give(&mut self, text: String) -> Poll<Option<Result<Frame<Bytes>, ReplyLost>>> {
        self.left = self.left.saturating_sub(text.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(text)))))
    }

    fn lose(&mut self, why: ReplyLost) -> Poll<Option<Result<Frame<Bytes>, ReplyLost>>> {
        self.stage = Stage::Done;
        if let Some(record) = self.record.take() {
            record.end(Ended::Reset);
        }
        Poll::Ready(Some(Err(why)))
    }
}

/// Base64 over parts of any size: what does not fill a group of three bytes waits for the next part.
#[derive(Default)]
struct Encoder {
    rest: Vec<u8>,
}

impl Encoder {
    fn feed(&mut self, mut part: &[u8]) -> String {
        let mut text = String::with_capacity((self.rest.len() + part.len()) / 3 * 4);
        if !self.rest.is_empty() {
            let (first, others) = part.split_at(part.len().min(3 - self.rest.len()));
            self.rest.extend_from_slice(first);
            part = others;
            if self.rest.len() < 3 {
                return text;
            }
            BASE64.encode_string(&self.rest, &mut text);
            self.rest.clear();
        }
        let (whole, rest) = part.split_at(part.len() / 3 * 3);
        BASE64.encode_string(whole, &mut text);
        self.rest.extend_from_slice(rest);
        text
    }

    fn finish(&mut self) -> String {
        BASE64.encode(std::mem::take(&mut self.rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_any_size_encode_as_the_whole() {
        let body: Vec<u8> = (0..10_007u32).map(|n| (n * 31 % 251) as u8).collect();
        for size in [1, 2, 3, 4, 5, 7, 64, 1000, 10_007] {
            let mut encoder = Encoder::default();
            let mut text: String = body.chunks(size).map(|part| encoder.feed(part)).collect();
            text.push_str(&encoder.finish());
            assert_eq!(text, BASE64.encode(&body), "parts of {size}");
            assert_eq!(text.len() as u64, base64_len(body.len() as u64));
        }
        let mut encoder = Encoder::default();
        assert_eq!(encoder.feed(b"") + &encoder.feed(b"a") + &encoder.feed(b"") + &encoder.finish(), "YQ==");
    }

    #[test]
    fn repeated_headers_are_a_list_and_none_can_name_the_execution() {
        let headers = [("X-A", "1"), ("x-a", "2"), ("X-A", "3"), ("X-Longshore-Execution-Id", "forged")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let trailers = vec![("digest".to_owned(), "d".to_owned())];
        let head = envelope_head(200, headers.to_vec(), trailers, ExecutionId::from_bytes([7; 16]));
        let value: serde_json::Value = serde_json::from_str(&(head + "null}")).unwrap();
        let expected = serde_json::json!({"X-A": ["1", "3"], "x-a": "2", EXECUTION_ID: "07".repeat(16)});
        assert_eq!(value["trailers"], serde_json::json!({"digest": "d"}));
        assert_eq!(value["headers"], expected);
        assert_eq!(value["error"], serde_json::Value::Null);
    }
}
