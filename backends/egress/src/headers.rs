//! Which headers of a guest go out, and their size.

use http::header::{self, HeaderMap, HeaderName};

use crate::error::{EgressError, Part};

/// Headers of one connection and not of the message (RFC 9110, 7.6.1), and those that decide where a message ends.
const HOP_BY_HOP: [HeaderName; 5] =
    [header::CONNECTION, header::TE, header::TRAILER, header::TRANSFER_ENCODING, header::UPGRADE];

/// Removes what belongs to a connection: the list above, what `connection` names, and old proxies' inventions.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    let other: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            name.starts_with("proxy-") || matches!(name, "keep-alive" | "http2-settings")
        })
        .cloned()
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named).chain(&other) {
        headers.remove(name);
    }
}

/// Takes the body's announced length out of the headers; it is written anew from the body itself.
pub(crate) fn take_length(headers: &mut HeaderMap) -> Result<Option<u64>, EgressError> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = match (values.next(), values.next()) {
        (None, _) => None,
        (Some(value), None) => {
            let text = value.to_str().unwrap_or_default();
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            match text.parse() {
                Ok(length) if digits => Some(length),
                _ => return Err(EgressError::InvalidHeader("content-length is no number")),
            }
        }
        _ => return Err(EgressError::InvalidHeader("content-length is there twice")),
    };
    headers.remove(header::CONTENT_LENGTH);
    Ok(length)
}

/// Refuses headers whose lines, with `more` bytes beside them, are over the limit.
pub(crate) fn check_size(
    headers: &HeaderMap,
    more: usize,
    limit: usize,
    what: Part,
) -> Result<(), EgressError> {
    // `name: value\r\n`
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size.saturating_add(more) > limit { Err(EgressError::TooLarge { what, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| (HeaderName::try_from(*n).unwrap(), HeaderValue::try_from(*v).unwrap()))
            .collect()
    }

    #[test]
    fn what_belongs_to_a_connection_is_removed_and_the_rest_stays() {
        let mut headers = map(&[
            ("connection", "close, x-mine"),
            ("connection", "x-other"),
            ("x-mine", "1"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("http2-settings", "x"),
            ("authorization", "Bearer x"),
            ("x-runner-auth", "x"),
            ("cookie", "a=b"),
        ]);
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "cookie", "x-runner-auth"]);
    }

    #[test]
    fn a_length_that_could_be_read_two_ways_is_refused() {
        assert_eq!(take_length(&mut map(&[])).unwrap(), None);
        let mut headers = map(&[("content-length", "5")]);
        assert_eq!(take_length(&mut headers).unwrap(), Some(5));
        assert!(headers.is_empty());
        for bad in ["", "-1", "+5", "5, 5", "0x5", "5 ", "99999999999999999999999"] {
            assert!(take_length(&mut map(&[("content-length", bad)])).is_err(), "{bad:?}");
        }
        assert!(take_length(&mut map(&[("content-length", "5"), ("content-length", "5")])).is_err());
    }

    #[test]
    fn the_types_leave_no_way_to_add_a_header_through_another() {
        for bad in ["a\r\nx: y", "a\nx: y", "a\rb", "a\0b", "a\u{7f}b"] {
            assert!(HeaderValue::try_from(bad).is_err(), "{bad:?}");
            assert!(HeaderName::try_from(bad).is_err(), "{bad:?}");
            assert!(http::Method::from_bytes(bad.as_bytes()).is_err(), "{bad:?}");
            assert!(http::uri::PathAndQuery::try_from(format!("/{bad}")).is_err(), "{bad:?}");
        }
        for bad in ["", "a b", "a:b", "ä"] {
            assert!(HeaderName::try_from(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sizes_count_names_values_and_separators() {
        let headers = map(&[("abc", "de")]);
        assert!(check_size(&headers, 1, 10, Part::RequestHeaders).is_ok());
        assert!(check_size(&headers, 2, 10, Part::RequestHeaders).is_err());
    }
}
