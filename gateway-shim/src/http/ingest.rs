//! Reading a request's body, bounded in bytes and time, and throwing away the body of a refused one.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::EXPECT;
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::budget::{Full, Held};

/// Bounds of one body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes.
    pub max: usize,
    /// Without a byte.
    pub idle: Duration,
    /// When it must be complete, however steadily it drips.
    pub until: Instant,
}

/// How long a request waits for others to give back bytes before it is refused. Waiting longer would only move the
/// queue from the callers into this process.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IngestError {
    #[error("the request body is over {0} bytes")]
    TooLarge(usize),
    #[error("the request body stopped: nothing came for {} s", .0.as_secs_f32())]
    Idle(Duration),
    #[error("the request body took longer than the longest call may")]
    TooSlow,
    /// The text says nothing of the cause: whoever broke the connection does not read it.
    #[error("the request body is incomplete")]
    Broken,
    #[error(transparent)]
    Full(#[from] Full),
}

/// Reads it all; `held` grows with every part.
pub(crate) async fn read<B>(mut body: B, held: &mut Held, bounds: Bounds) -> Result<Bytes, (IngestError, B)>
where
    B: Body<Data = Bytes> + Unpin,
{
    let announced = body.size_hint().exact();
    if announced.is_some_and(|length| length > bounds.max as u64) {
        return Err((IngestError::TooLarge(bounds.max), body));
    }
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    loop {
        let part = match next(&mut body, bounds).await {
            Ok(Some(part)) => part,
            // Most bodies are one part and are not copied.
            Ok(None) => return Ok(first.unwrap_or_else(|| all.freeze())),
            Err(error) => return Err((error, body)),
        };
        let so_far = first.as_ref().map_or(all.len(), Bytes::len);
        if so_far + part.len() > bounds.max {
            return Err((IngestError::TooLarge(bounds.max), body));
        }
        if let Err(full) = held.grow(part.len(), PATIENCE).await {
            return Err((full.into(), body));
        }
        if so_far == 0 {
            first = Some(part);
            continue;
        }
        if let Some(first) = first.take() {
            // The pages of what was announced are touched only as they are filled.
            all.reserve(announced.map_or(0, |n| n as usize).max(first.len() + part.len()));
            all.extend_from_slice(&first);
        }
        all.extend_from_slice(&part);
    }
}

async fn next<B>(body: &mut B, bounds: Bounds) -> Result<Option<Bytes>, IngestError>
where
    B: Body<Data = Bytes> + Unpin,
{
    loop {
        let give_up = (Instant::now() + bounds.idle).min(bounds.until);
        return match tokio::time::timeout_at(give_up, body.frame()).await {
            Err(_) if give_up == bounds.until => Err(IngestError::TooSlow),
            Err(_) => Err(IngestError::Idle(bounds.idle)),
            Ok(None) => Ok(None),
            Ok(Some(Err(_))) => Err(IngestError::Broken),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if data.is_empty() => continue,
                Ok(data) => Ok(Some(data)),
                // Trailers: nobody asked for them.
                Err(_) => continue,
            },
        };
    }
}

/// How long and how much a refused body is read. A caller that writes all of its body before it reads would otherwise
/// see a reset instead of the reason. Nothing of it is kept.
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// Reads on into nowhere; says whether the end came.
pub(crate) async fn discard<B>(body: &mut B, max: usize) -> bool
where
    B: Body<Data = Bytes> + Unpin,
{
    let until = Instant::now() + DISCARD_TIME;
    let bounds = Bounds { max, idle: DISCARD_TIME, until };
    let mut seen = 0usize;
    while let Ok(part) = next(body, bounds).await {
        let Some(part) = part else { return true };
        seen = seen.saturating_add(part.len());
        if seen > bounds.max {
            return false;
        }
    }
    false
}

/// What is left of a refused request's body.
pub(crate) enum Rest<B> {
    /// Nothing.
    Nothing,
    /// It has not been read to its end.
    Unread(B),
    /// The sender stopped; waiting for more is in vain.
    Stalled,
}

impl<B: Body<Data = Bytes> + Unpin> Rest<B> {
    /// Reads it into nowhere; says whether the connection can take another request.
    pub(crate) async fn finish(self, headers: &HeaderMap, max: usize) -> bool {
        match self {
            Self::Nothing => true,
            // Who waits for `100 Continue` has sent nothing yet, and reading would ask for it.
            Self::Unread(mut body) if !headers.contains_key(EXPECT) => discard(&mut body, max).await,
            Self::Unread(_) | Self::Stalled => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::StreamExt as _;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use prometheus_client::metrics::gauge::Gauge;

    use super::super::budget::BodyBudget;
    use super::*;

    fn body(parts: Vec<&'static str>, ends: bool) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let parts = futures::stream::iter(parts).map(|p| Ok(Frame::data(Bytes::from_static(p.as_bytes()))));
        let rest = if ends { futures::stream::empty().boxed() } else { futures::stream::pending().boxed() };
        StreamBody::new(parts.chain(rest))
    }

    fn bounds() -> Bounds {
        Bounds { max: 10, idle: Duration::from_secs(30), until: Instant::now() + Duration::from_secs(300) }
    }

    async fn ingest(parts: Vec<&'static str>, ends: bool, room: usize) -> Result<Bytes, IngestError> {
        let mut held = BodyBudget::new(4 * room, Gauge::default()).open("t");
        read(body(parts, ends), &mut held, bounds()).await.map_err(|(error, _)| error)
    }

    #[tokio::test(start_paused = true)]
    async fn parts_are_joined_in_order() {
        assert_eq!(ingest(vec!["ab", "", "cd", "e"], true, 100).await.unwrap(), "abcde");
        assert_eq!(ingest(vec!["ab"], true, 100).await.unwrap(), "ab");
        assert_eq!(ingest(vec![], true, 100).await.unwrap(), "");
    }

    #[tokio::test(start_paused = true)]
    async fn too_much_too_slow_and_no_room_are_told_apart() {
        assert!(matches!(ingest(vec!["abcdef", "ghijk"], true, 100).await, Err(IngestError::TooLarge(10))));
        let started = Instant::now();
        assert!(matches!(ingest(vec!["ab"], false, 100).await, Err(IngestError::Idle(_))));
        assert_eq!(started.elapsed().as_secs(), 30);
        assert!(matches!(ingest(vec!["abcdef"], true, 5).await, Err(IngestError::Full(Full::Tenant))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_ends_with_the_longest_call() {
        let drips = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(29)).await;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"."))), ()))
        });
        let mut held = BodyBudget::new(4_000, Gauge::default()).open("t");
        let wide = Bounds { max: 1_000, ..bounds() };
        let (error, _) = read(StreamBody::new(drips.boxed()), &mut held, wide).await.unwrap_err();
        assert!(matches!(error, IngestError::TooSlow), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_body_is_read_to_its_end_but_not_for_ever() {
        assert!(discard(&mut body(vec!["abc"], true), 10).await);
        assert!(!discard(&mut body(vec!["abcdef", "ghijk"], true), 10).await);
        let started = Instant::now();
        assert!(!discard(&mut body(vec!["abc"], false), 10).await);
        assert_eq!(started.elapsed(), DISCARD_TIME);
    }
}
