//! `Accept-Encoding` (RFC 9110, 12.5.3).

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Encoding {
    /// Smallest for pages, scripts and styles: its dictionary holds their words.
    Brotli,
    /// Nearly as small, and the fastest to unpack.
    Zstd,
    /// What everybody understands.
    Gzip,
}

impl Encoding {
    /// As in `content-encoding`, ETags and file names.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

/// In the order in which equals are preferred.
const ALL: [Encoding; 3] = [Encoding::Brotli, Encoding::Zstd, Encoding::Gzip];
/// Bytes of the header that are looked at.
const MAX_HEADER: usize = 1024;

/// What the caller likes best; None: no compression. A caller that refuses everything gets the plain bytes, which is better than
/// nothing.
pub(super) fn choose(headers: &HeaderMap) -> Option<Encoding> {
    let text: Vec<&str> =
        headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).collect();
    let text = text.join(",");
    if text.len() > MAX_HEADER {
        return None;
    }
    let weights: Vec<(&str, u16)> = text.split(',').filter_map(weight).collect();
    let of = |name: &str| weights.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, q)| *q);
    let any = of("*");
    let named = |encoding: Encoding| match encoding {
        Encoding::Gzip => of("gzip").or_else(|| of("x-gzip")),
        other => of(other.as_str()),
    };
    let mut best: Option<(Encoding, u16)> = None;
    for encoding in ALL {
        let q = named(encoding).or(any).unwrap_or(0);
        if q > best.map_or(0, |(_, q)| q) {
            best = Some((encoding, q));
        }
    }
    // Only who says so prefers plain bytes.
    best.filter(|(_, q)| of("identity").is_none_or(|identity| identity <= *q)).map(|(encoding, _)| encoding)
}

/// A coding and its weight in thousandths.
fn weight(item: &str) -> Option<(&str, u16)> {
    let mut parts = item.split(';');
    let name = parts.next()?.trim();
    if name.is_empty() {
        return None;
    }
    let q = parts.find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse::<f32>().unwrap_or(0.0))
    });
    let thousandths = (q.unwrap_or(1.0).clamp(0.0, 1.0) * 1000.0).round();
    // A NaN becomes 0.
    Some((name, thousandths as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(lines: &[&str]) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(ACCEPT_ENCODING, line.parse().unwrap());
        }
        choose(&headers).map(Encoding::as_str)
    }

    #[test]
    fn the_callers_weights_decide_and_equals_go_by_size() {
        for (line, expected) in [
            ("gzip, deflate, br, zstd", Some("br")),
            ("gzip, zstd", Some("zstd")),
            ("gzip", Some("gzip")),
            ("x-gzip", Some("gzip")),
            ("br;q=0.5, gzip;q=0.8", Some("gzip")),
            ("br;q=0, gzip", Some("gzip")),
            ("*", Some("br")),
            ("*;q=0.5, gzip;q=0.6", Some("gzip")),
            ("br;q=0, *", Some("zstd")),
            ("GZIP ; Q=1.0", Some("gzip")),
            ("identity;q=1, br;q=0.5", None),
            ("identity;q=0.1, br;q=0.5", Some("br")),
            ("identity", None),
            ("deflate", None),
            ("", None),
            ("br;q=0", None),
            ("br;q=x", None),
            ("br;q=NaN", None),
            ("*;q=0", None),
        ] {
            assert_eq!(chosen(&[line]), expected, "{line}");
        }
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&["gzip;q=0.5", "zstd"]), Some("zstd"), "several lines are one list");
        assert_eq!(chosen(&[&"br,".repeat(400)]), None);
    }
}
