//! What many threads finish in any order, taken in the order in which it was begun.

use std::collections::VecDeque;

/// Items that wait for those before them. How many there can be is bounded by whoever begins them.
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

    /// Takes in the item of this number, counted from 0; each comes once.
    pub(super) fn put(&mut self, number: usize, item: T) {
        let at = number - self.next;
        if self.waiting.len() <= at {
            self.waiting.resize_with(at + 1, || None);
        }
        self.waiting[at] = Some(item);
    }

    /// The next item, if it has come.
    pub(super) fn pop(&mut self) -> Option<T> {
        let item = self.waiting.front_mut()?.take()?;
        self.waiting.pop_front();
        self.next += 1;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_out_in_order() {
        let mut order = InOrder::new();
        let mut out = Vec::new();
        for number in [2, 0, 3, 1, 5, 4] {
            order.put(number, number);
            out.extend(std::iter::from_fn(|| order.pop()));
        }
        assert_eq!(out, [0, 1, 2, 3, 4, 5]);
    }
}
