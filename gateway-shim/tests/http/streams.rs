//! Bodies that still arrive while they are passed on, and callers that do not wait.

use std::sync::Arc;

use bytes::Bytes;
use gateway_shim::dispatch::{Answer, AnswerBody, CallResult};
use longshore_proto::{CallError, ErrorCode};
use tokio::sync::{Notify, mpsc};

use crate::support::{Fake, Front, PATIENCE, body_of, post, request};

type Part = Result<Bytes, CallError>;

fn stream(len: u64, parts: mpsc::Receiver<Part>) -> CallResult {
    Ok(Answer {
        status: 200,
        headers: vec![("A".into(), "b".into())],
        body: AnswerBody::Stream { len, parts },
        trailers: vec![],
    })
}

/// Passes `all` on in parts of these sizes, by turns; then an error, if there is one.
fn sender(all: Bytes, sizes: &'static [usize], error: Option<CallError>) -> mpsc::Receiver<Part> {
    let (tx, rx) = mpsc::channel(2);
    tokio::spawn(async move {
        let (mut rest, mut sizes) = (all, sizes.iter().cycle());
        while !rest.is_empty() {
            let part = rest.split_to((*sizes.next().unwrap()).min(rest.len()));
            if tx.send(Ok(part)).await.is_err() {
                return;
            }
        }
        if let Some(error) = error {
            let _ = tx.send(Err(error)).await;
        }
    });
    rx
}

fn pattern(len: usize) -> Bytes {
    (0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[tokio::test]
async fn ten_mebibytes_in_odd_parts_arrive_byte_for_byte_with_their_length() {
    let body = pattern(10 * 1024 * 1024 + 1);
    let all = body.clone();
    let fake = Fake::new(move |_| {
        let all = all.clone();
        async move { stream(all.len() as u64, sender(all, &[131_072, 1, 2, 65_537, 4, 100_003], None)) }
    });
    let front = Front::start(fake, &[]).await;
    let reply = front.execute(&request()).await;
    let envelope = reply.envelope();
    assert_eq!(reply.header("content-length").unwrap().parse(), Ok(reply.body.len()));
    assert_eq!(envelope["headers"]["A"], "b");
    assert!(body_of(&envelope) == body);
    let page = front.metrics.render().unwrap();
    assert!(page.contains("longshore_shim_requests_total{code=\"ok\"} 1"), "{page}");
}

#[tokio::test]
async fn short_streams_end_with_the_right_padding() {
    for len in 0..8 {
        let fake = Fake::new(move |_| async move { stream(len as u64, sender(pattern(len), &[1], None)) });
        let front = Front::start(fake, &[]).await;
        assert_eq!(body_of(&front.execute(&request()).await.envelope()), pattern(len));
    }
}

#[tokio::test]
async fn a_lost_stream_resets_the_response_and_never_ends_it() {
    let lost = || Some(CallError::from(ErrorCode::WorkerLost));
    // (announced, sent, then)
    for (len, sent, error) in
        [(500_000, 200_000, lost()), (500_000, 200_000, None), (10, 11, None), (10, 10, lost())]
    {
        let fake = Fake::new(move |_| {
            let error = error.clone();
            async move { stream(len, sender(pattern(sent), &[7_001], error)) }
        });
        let front = Front::start(fake, &[]).await;
        let mut client = front.connect().await;
        client.write(post(&[], request().to_string())).await;
        let reply = tokio::time::timeout(PATIENCE, client.try_reply()).await.unwrap();
        assert!(reply.is_none(), "{len} announced, {sent} sent: {reply:?}");
        let page = front.metrics.render().unwrap();
        assert!(page.contains("longshore_shim_requests_total{code=\"reset\"} 1"), "{page}");
    }
}

/// A value that tells when it is dropped.
struct Tell(Arc<Notify>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_the_call() {
    let (started, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let fake = {
        let (started, dropped) = (started.clone(), dropped.clone());
        Fake::new(move |_| {
            let (tell, started) = (Tell(dropped.clone()), started.clone());
            async move {
                let _tell = tell;
                started.notify_one();
                std::future::pending().await
            }
        })
    };
    let front = Front::start(fake, &[]).await;
    let mut client = front.connect().await;
    client.write(post(&[], request().to_string())).await;
    started.notified().await;
    drop(client);
    tokio::time::timeout(PATIENCE, dropped.notified()).await.expect("the call goes on");
    front.shows("longshore_shim_requests_total{code=\"client_gone\"} 1").await;
    front.shows("longshore_shim_body_bytes_in_flight 0").await;
}

#[tokio::test]
async fn a_caller_that_goes_away_in_the_middle_of_an_answer_ends_its_stream() {
    let (tx, rx) = mpsc::channel(1);
    let rx = std::sync::Mutex::new(Some(rx));
    let fake = Fake::new(move |_| {
        let rx = rx.lock().unwrap().take().unwrap();
        async move { stream(1_000_000, rx) }
    });
    let front = Front::start(fake, &[]).await;
    let mut client = front.connect().await;
    client.write(post(&[], request().to_string())).await;
    tx.send(Ok(pattern(1_000))).await.unwrap();
    // The head has arrived, so the response has begun.
    client.stream.readable().await.unwrap();
    drop(client);
    tokio::time::timeout(PATIENCE, tx.closed()).await.expect("the stream is still read");
}
