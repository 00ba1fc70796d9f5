//! Sends several requests before their answers arrive, without a task for each.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Futures that have been polled once, oldest first. Servers usually answer in the order of the
/// requests.
pub(super) struct Window<'a, T> {
    begun: VecDeque<Begun<'a, T>>,
}

enum Begun<'a, T> {
    Pending(Boxed<'a, T>),
    Ready(T),
}

impl<'a, T> Window<'a, T> {
    pub(super) fn new() -> Self {
        Self {
            begun: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.begun.len()
    }

    /// Sends a request by polling its future once.
    pub(super) async fn begin(&mut self, future: impl Future<Output = T> + 'a) {
        let mut future: Boxed<'a, T> = Box::pin(future);
        let first = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        self.begun.push_back(match first {
            Poll::Ready(output) => Begun::Ready(output),
            Poll::Pending => Begun::Pending(future),
        });
    }

    /// Waits for the answer to the oldest request. Returns `None` if no request is outstanding.
    pub(super) async fn next(&mut self) -> Option<T> {
        match self.begun.pop_front()? {
            Begun::Ready(output) => Some(output),
            Begun::Pending(future) => Some(future.await),
        }
    }
}

/// Runs all futures at the same time. Returns their outputs in the same order.
pub(super) async fn all<'a, T>(
    futures: impl IntoIterator<Item: Future<Output = T> + 'a>,
) -> Vec<T> {
    let mut running: Vec<_> = futures
        .into_iter()
        .map(|future| Begun::Pending(Box::pin(future) as Boxed<'a, T>))
        .collect();
    poll_fn(|cx| {
        let mut pending = false;
        for entry in &mut running {
            if let Begun::Pending(future) = entry {
                match future.as_mut().poll(cx) {
                    Poll::Ready(output) => *entry = Begun::Ready(output),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    running
        .into_iter()
        .filter_map(|entry| match entry {
            Begun::Ready(output) => Some(output),
            Begun::Pending(_) => None,
        })
        .collect()
}
