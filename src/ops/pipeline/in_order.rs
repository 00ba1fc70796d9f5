//! Results that many threads finish in any order, returned in the order in which they were begun.

use std::collections::VecDeque;

/// Items that wait for those before them. The caller limits how many can wait.
pub(super) struct InOrder<T> {
    next: usize,
    waiting: VecDeque<Option<T>>,
}

impl<T> InOrder<T> {
    pub(super) fn new() -> Self {
        Self {
            next: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Adds the item with this number, counted from 0. Each number must be added once.
    pub(super) fn put(&mut self, number: usize, item: T) {
        let at = number - self.next;
        if self.waiting.len() <= at {
            self.waiting.resize_with(at + 1, || None);
        }
        self.waiting[at] = Some(item);
    }

    /// Returns the next item; `None` if it was not added yet.
    pub(super) fn pop(&mut self) -> Option<T> {
        let item = self.waiting.front_mut()?.take()?;
        self.waiting.pop_front();
        self.next += 1;
        Some(item)
    }

    /// Returns how many items [`pop`](Self::pop) has returned.
    pub(super) fn popped(&self) -> usize {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_returned_in_order() {
        let mut order = InOrder::new();
        let mut out = Vec::new();
        for number in [2, 0, 3, 1, 5, 4] {
            order.put(number, number);
            out.extend(std::iter::from_fn(|| order.pop()));
        }
        assert_eq!(out, [0, 1, 2, 3, 4, 5]);
        assert_eq!(order.popped(), 6);
    }
}
