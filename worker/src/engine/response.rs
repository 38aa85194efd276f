//! What the guest answered, checked: callers of the existing platform throw on a status outside 200 to 599 and on a
//! body with 204 or 304 (interop 12.12).

use bytes::Bytes;
use longshore_proto::limits::MAX_HEADER_BYTES;
use longshore_proto::{CallError, ErrorCode};

use crate::host::bindings::alga::extension::types::ExecuteResponse;
use crate::job::GuestResponse;

/// What a header weighs beside its name and value, as in the request's count.
const HEADER_COST: usize = 8;

/// The answer as it may leave the worker, of at most `max_bytes` of body.
pub fn checked(response: ExecuteResponse, max_bytes: usize) -> Result<GuestResponse, CallError> {
    let ExecuteResponse { status, headers, body } = response;
    if !(200..=599).contains(&status) {
        return Err(invalid(format!("the status is {status}; it must be 200 to 599")));
    }
    let mut header_bytes = 0_usize;
    let mut checked = Vec::with_capacity(headers.len());
    for header in headers {
        header_bytes = header_bytes.saturating_add(header.name.len() + header.value.len() + HEADER_COST);
        if header_bytes > MAX_HEADER_BYTES {
            return Err(too_large(format!("the headers are over {MAX_HEADER_BYTES} bytes")));
        }
        check(&header.name, &header.value, checked.len())?;
        checked.push((header.name, header.value));
    }
    let body = body.filter(|_| !matches!(status, 204 | 304));
    if let Some(bytes) = body.as_ref().map(Vec::len).filter(|n| *n > max_bytes) {
        return Err(too_large(format!("the body has {bytes} bytes; {max_bytes} are allowed")));
    }
    Ok(GuestResponse { status, headers: checked, body: body.map(Bytes::from) })
}

/// The name is shown only when it is a valid one: the message goes into logs and answers.
fn check(name: &str, value: &str, index: usize) -> Result<(), CallError> {
    if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err(invalid(format!("the name of header {index} is no header name")));
    }
    if http::HeaderValue::from_bytes(value.as_bytes()).is_err() {
        return Err(invalid(format!("the value of header {name} is no header value")));
    }
    Ok(())
}

fn invalid(message: String) -> CallError {
    CallError::new(ErrorCode::InvalidResponse, message)
}

fn too_large(message: String) -> CallError {
    CallError::new(ErrorCode::ResponseTooLarge, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::bindings::alga::extension::types::HttpHeader;

    fn answer(status: u16, header: (&str, &str), body: Option<usize>) -> Result<GuestResponse, ErrorCode> {
        let headers = vec![HttpHeader { name: header.0.to_owned(), value: header.1.to_owned() }];
        let response = ExecuteResponse { status, headers, body: body.map(|n| vec![b'x'; n]) };
        checked(response, 10).map_err(|e| e.code)
    }

    #[test]
    fn statuses_that_no_http_caller_knows_are_refused() {
        for status in [0, 100, 199, 600, 65_535] {
            assert_eq!(answer(status, ("a", "b"), None), Err(ErrorCode::InvalidResponse));
        }
        for status in [200, 404, 599] {
            assert!(answer(status, ("a", "b"), None).is_ok());
        }
    }

    #[test]
    fn a_body_with_204_or_304_is_dropped_whatever_its_size() {
        for status in [204, 304] {
            assert_eq!(answer(status, ("a", "b"), Some(100)).unwrap().body, None);
        }
        assert_eq!(answer(200, ("a", "b"), Some(0)).unwrap().body, Some(Bytes::new()));
    }

    #[test]
    fn headers_that_would_split_the_answer_are_refused() {
        for header in [("a\r\nb", "v"), ("", "v"), ("a b", "v"), ("a", "v\r\nx: y"), ("a", "nul\0")] {
            assert_eq!(answer(200, header, None), Err(ErrorCode::InvalidResponse), "{header:?}");
        }
        assert!(answer(200, ("X-Name", "gr\u{fc}n"), None).is_ok());
    }

    #[test]
    fn large_bodies_and_large_headers_have_a_code_of_their_own() {
        assert_eq!(answer(200, ("a", "b"), Some(11)), Err(ErrorCode::ResponseTooLarge));
        let value = "v".repeat(MAX_HEADER_BYTES);
        assert_eq!(answer(200, ("a", &value), None), Err(ErrorCode::ResponseTooLarge));
    }
}
