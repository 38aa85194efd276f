//! Which files are served, and as what. A closed table: guessing from content is what `nosniff` forbids browsers, and a table of a
//! thousand types would serve what no page needs.
//!
//! The existing platform serves `html js css json map svg png jpg jpeg webp woff woff2`. Added, because builds of today's tools hold
//! them: `mjs`, `wasm`, `ico`, `gif`, `avif`, `ttf`, `txt`, `webmanifest`.

/// How a file is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Media {
    /// `content-type`. Text is UTF-8: browsers would else guess from the system's language.
    pub content_type: &'static str,
    /// Whether compression is worth trying.
    pub compressible: bool,
}

const fn text(content_type: &'static str) -> Option<Media> {
    Some(Media { content_type, compressible: true })
}

const fn packed(content_type: &'static str) -> Option<Media> {
    Some(Media { content_type, compressible: false })
}

/// HTML gets the content security policy.
pub(super) const HTML: &str = "text/html; charset=utf-8";

/// By the lower-cased extension of a file's name. None: such files are not served.
fn by_extension(extension: &str) -> Option<Media> {
    match extension {
        "html" => text(HTML),
        "js" | "mjs" => text("text/javascript; charset=utf-8"),
        "css" => text("text/css; charset=utf-8"),
        "json" | "map" => text("application/json; charset=utf-8"),
        "webmanifest" => text("application/manifest+json; charset=utf-8"),
        "txt" => text("text/plain; charset=utf-8"),
        "svg" => text("image/svg+xml"),
        "wasm" => text("application/wasm"),
        "ico" => text("image/x-icon"),
        "ttf" => text("font/ttf"),
        "png" => packed("image/png"),
        "jpg" | "jpeg" => packed("image/jpeg"),
        "gif" => packed("image/gif"),
        "webp" => packed("image/webp"),
        "avif" => packed("image/avif"),
        "woff" => packed("font/woff"),
        "woff2" => packed("font/woff2"),
        _ => None,
    }
}

/// How a file of this name is served. A name without extension is bytes of no known kind.
pub(super) fn of(name: &str) -> Option<Media> {
    match name.rsplit_once('.') {
        None => packed("application/octet-stream"),
        Some((_, extension)) => by_extension(&extension.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_how_it_is_served_in_any_case() {
        assert_eq!(of("app.js").unwrap().content_type, "text/javascript; charset=utf-8");
        assert_eq!(of("app.min.JS"), of("x.mjs"));
        assert_eq!(of("logo.PNG").unwrap().content_type, "image/png");
        assert_eq!(of("LICENSE").unwrap().content_type, "application/octet-stream");
        assert!(!of("font.woff2").unwrap().compressible && of("a.svg").unwrap().compressible);
    }

    #[test]
    fn what_no_page_needs_is_not_served() {
        for name in ["x.php", "x.", "x.html.bak", "x.sh", "x.pem", "x.htm", "x.xhtml", "x.tar"] {
            assert_eq!(of(name), None, "{name}");
        }
    }
}
