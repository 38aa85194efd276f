//! What the guest answered, checked: callers of the existing platform throw on a status outside 200 to 599 and on a
//! body with 204 or 304 (interop 12.12).

use std::collections::HashMap;

use bytes::Bytes;
use http::HeaderMap;
use longshore_proto::limits::MAX_HEADER_BYTES;
use longshore_proto::{CallError, ErrorCode};

use crate::host::bindings::alga::extension::types::ExecuteResponse;
use crate::job::GuestResponse;

/// What a header weighs beside its name and value, as in the request's count.
const HEADER_COST: usize = 8;

/// The answer of an `alga:extension` as it may leave the worker, of at most `max_bytes` of body. Of headers with one
/// name, to the letter, the last stays, as on the existing platform (interop 2.6).
pub fn checked(response: ExecuteResponse, max_bytes: usize) -> Result<GuestResponse, CallError> {
    let ExecuteResponse { status, headers, body } = response;
    check_status(status)?;
    let mut weight = Weight::default();
    let mut kept: Vec<(String, String)> = Vec::with_capacity(headers.len());
    let mut places: HashMap<String, usize> = HashMap::with_capacity(headers.len());
    for (index, header) in headers.into_iter().enumerate() {
        weight.add(header.name.len(), header.value.len())?;
        check(&header.name, &header.value, index)?;
        match places.get(&header.name).and_then(|place| kept.get_mut(*place)) {
            Some((_, value)) => *value = header.value,
            None => {
                places.insert(header.name.clone(), kept.len());
                kept.push((header.name, header.value));
            }
        }
    }
    let body = body_of(status, body.map(Bytes::from));
    if let Some(bytes) = body.as_ref().map(Bytes::len).filter(|n| *n > max_bytes) {
        return Err(too_large(format!("the body has {bytes} bytes; {max_bytes} are allowed")));
    }
    Ok(GuestResponse { status, headers: kept, body, trailers: Vec::new() })
}

/// Status and headers of a `wasi:http` answer, repeated names included, before its body is read.
pub fn head(status: u16, headers: &HeaderMap) -> Result<(u16, Vec<(String, String)>), CallError> {
    check_status(status)?;
    Ok((status, pairs(headers, &mut Weight::default())?))
}

/// A `wasi:http` answer as it may leave the worker; the body is within its limit.
pub fn http(
    status: u16,
    headers: Vec<(String, String)>,
    body: Option<Bytes>,
    trailers: &HeaderMap,
) -> Result<GuestResponse, CallError> {
    let mut weight = Weight::default();
    for (name, value) in &headers {
        weight.add(name.len(), value.len())?;
    }
    let trailers = pairs(trailers, &mut weight)?;
    Ok(GuestResponse { status, headers, body: body_of(status, body), trailers })
}

/// Informational ones (100 to 199) are refused with the rest: a call has one answer.
fn check_status(status: u16) -> Result<(), CallError> {
    if (200..=599).contains(&status) {
        return Ok(());
    }
    Err(invalid(format!("the status is {status}; it must be 200 to 599")))
}

fn body_of(status: u16, body: Option<Bytes>) -> Option<Bytes> {
    body.filter(|_| !matches!(status, 204 | 304))
}

fn pairs(headers: &HeaderMap, weight: &mut Weight) -> Result<Vec<(String, String)>, CallError> {
    let mut pairs = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        weight.add(name.as_str().len(), value.len())?;
        // The message leaves as text: there is no place for a value that is none.
        let value = std::str::from_utf8(value.as_bytes())
            .map_err(|_| invalid(format!("the value of header {name} is not UTF-8")))?;
        pairs.push((name.as_str().to_owned(), value.to_owned()));
    }
    Ok(pairs)
}

/// What the headers weigh so far.
#[derive(Default)]
struct Weight(usize);

impl Weight {
    fn add(&mut self, name: usize, value: usize) -> Result<(), CallError> {
        self.0 = self.0.saturating_add(name + value + HEADER_COST);
        if self.0 > MAX_HEADER_BYTES {
            return Err(too_large(format!("the headers are over {MAX_HEADER_BYTES} bytes")));
        }
        Ok(())
    }
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

    #[test]
    fn the_last_of_headers_with_the_same_spelling_stays_in_the_place_of_the_first() {
        let headers = [("a", "1"), ("b", "2"), ("A", "3"), ("a", "4")];
        let headers =
            headers.iter().map(|(n, v)| HttpHeader { name: (*n).into(), value: (*v).into() }).collect();
        let answer = checked(ExecuteResponse { status: 200, headers, body: None }, 10).unwrap();
        let found: Vec<_> = answer.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(found, [("a", "4"), ("b", "2"), ("A", "3")]);
    }

    #[test]
    fn repeated_headers_of_http_guests_stay_and_count_with_the_trailers() {
        let mut map = HeaderMap::new();
        for value in ["1", "2"] {
            map.append("set-cookie", http::HeaderValue::from_static(value));
        }
        let (status, headers) = head(200, &map).unwrap();
        assert_eq!(headers.len(), 2);
        let mut trailers = HeaderMap::new();
        let value =
            "v".repeat(MAX_HEADER_BYTES - 2 * ("set-cookie".len() + 1 + HEADER_COST) - HEADER_COST - 3);
        trailers.append("x-t", http::HeaderValue::try_from(&value).unwrap());
        assert!(super::http(status, headers.clone(), None, &trailers).is_ok());
        trailers.append("x", http::HeaderValue::from_static(""));
        let error = super::http(status, headers, None, &trailers).unwrap_err();
        assert_eq!(error.code, ErrorCode::ResponseTooLarge);
    }

    #[test]
    fn informational_statuses_and_values_that_are_no_text_are_refused() {
        assert_eq!(head(103, &HeaderMap::new()).unwrap_err().code, ErrorCode::InvalidResponse);
        let mut map = HeaderMap::new();
        map.append("x-bytes", http::HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(head(200, &map).unwrap_err().code, ErrorCode::InvalidResponse);
    }

    #[test]
    fn a_body_of_http_guests_with_204_or_304_is_dropped_too() {
        for status in [204, 304] {
            let answer = super::http(status, Vec::new(), Some(Bytes::from_static(b"x")), &HeaderMap::new());
            assert_eq!(answer.unwrap().body, None);
        }
    }
}
