//! How urgent a message is.

use std::ops::{Index, IndexMut};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How urgent a message is: at each step, what has a high priority is served before all that has a
/// normal one.
///
/// Within a priority messages keep their order. Nothing that a worker has in hand is overtaken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// In turn.
    #[default]
    Normal,
    /// Before all that has a normal priority.
    High,
}

impl Priority {
    /// The most urgent first.
    pub(crate) const ALL: [Self; 2] = [Self::High, Self::Normal];
}

/// One value for each priority.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ByPriority<T> {
    high: T,
    normal: T,
}

impl<T> ByPriority<T> {
    pub(crate) fn new(make: impl Fn() -> T) -> Self {
        Self { high: make(), normal: make() }
    }

    /// The values, that of the most urgent first.
    pub(crate) fn iter(&self) -> std::array::IntoIter<&T, 2> {
        [&self.high, &self.normal].into_iter()
    }

    pub(crate) fn iter_mut(&mut self) -> std::array::IntoIter<&mut T, 2> {
        [&mut self.high, &mut self.normal].into_iter()
    }
}

impl<T> Index<Priority> for ByPriority<T> {
    type Output = T;

    #[inline]
    fn index(&self, priority: Priority) -> &T {
        match priority {
            Priority::High => &self.high,
            Priority::Normal => &self.normal,
        }
    }
}

impl<T> IndexMut<Priority> for ByPriority<T> {
    #[inline]
    fn index_mut(&mut self, priority: Priority) -> &mut T {
        match priority {
            Priority::High => &mut self.high,
            Priority::Normal => &mut self.normal,
        }
    }
}
