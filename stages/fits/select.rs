//! Selects the images of a file.

use std::collections::HashSet;
use std::fmt::{self, Display};

use super::hdu::Unit;
use crate::prelude::*;

/// Limits the images that a warning names.
const NAMED: usize = 16;

/// An HDU by its number, 0 is the primary one, or by its `EXTNAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected an HDU's number (0 is the primary one), its EXTNAME, or \"all\""
)]
pub enum Hdu {
    /// The number, 0 is the primary HDU.
    Number(u32),
    /// The extension's name, in any case; behind a comma its `EXTVER`, as in `"SCI,2"`. Or
    /// `"all"`: each image of the file.
    Name(String),
}

impl Display for Hdu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hdu::Number(number) => write!(f, "{number}"),
            Hdu::Name(name) => write!(f, "\"{name}\""),
        }
    }
}

/// The images that are taken of a file, and what was seen of it on the way.
pub(super) struct Selection<'a> {
    wanted: Option<&'a Hdu>,
    /// The title of each image, and whether it was selected.
    images: Vec<(String, bool)>,
    /// Whether an HDU was selected that has no image.
    other: bool,
    taken: usize,
    /// The names of products that are taken.
    names: HashSet<String>,
}

impl<'a> Selection<'a> {
    pub(super) fn new(wanted: Option<&'a Hdu>) -> Self {
        Self { wanted, images: Vec::new(), other: false, taken: 0, names: HashSet::new() }
    }

    pub(super) fn takes_all(&self) -> bool {
        matches!(self.wanted, Some(Hdu::Name(name)) if name.eq_ignore_ascii_case("all"))
    }

    /// Whether nothing more is wanted of the file and no warning can follow.
    pub(super) fn is_complete(&self) -> bool {
        self.taken > 0 && matches!(self.wanted, Some(Hdu::Number(_)))
    }

    pub(super) fn has_taken(&self) -> bool {
        self.taken > 0
    }

    /// Whether this HDU is selected.
    pub(super) fn takes(&mut self, unit: &Unit) -> bool {
        let meant = match self.wanted {
            None => true,
            Some(Hdu::Number(number)) => *number == unit.number,
            Some(Hdu::Name(name)) => self.takes_all() || is_called(unit, name),
        };
        if unit.image.is_none() {
            self.other |= meant && self.wanted.is_some();
            return false;
        }
        self.images.push((unit.title(), meant));
        let takes = meant && (self.taken == 0 || self.takes_all());
        self.taken += usize::from(takes);
        takes
    }

    /// Finds a name for the products of an image when all images of a file are taken; no two are
    /// the same.
    pub(super) fn product(&mut self, file: &str, unit: &Unit) -> String {
        if !self.takes_all() {
            return file.to_owned();
        }
        let numbered = format!("{file}_hdu{}", unit.number);
        let version = unit.version.map(|version| format!("_{version}")).unwrap_or_default();
        let named = unit.name.as_ref().map(|name| format!("{file}_{name}{version}"));
        let name = named.filter(|name| !self.names.contains(&name.to_lowercase()));
        let mut name = name.unwrap_or(numbered);
        while !self.names.insert(name.to_lowercase()) {
            name.push('_');
        }
        name
    }

    /// Explains why nothing was taken of a file of `count` HDUs.
    pub(super) fn nothing(&self, source: &str, hdus: u32) -> Failure {
        Failure::permanent(match self.wanted {
            Some(hdu) if self.other => format!("{source}: HDU {hdu} has no image"),
            Some(hdu) if !self.takes_all() => {
                let images = match self.images.is_empty() {
                    true => "none of its HDUs has an image".to_owned(),
                    false => format!("its images are {}", self.list()),
                };
                format!("{source} has no HDU {hdu}: {images}")
            }
            _ if hdus == 1 => format!("{source}: its only HDU has no image"),
            _ => format!("{source}: none of its {hdus} HDUs has an image"),
        })
    }

    /// Warns of images that were left out although they may have been meant.
    pub(super) fn warning(&self, source: &str) -> Option<String> {
        let meant = self.images.iter().filter(|(_, meant)| *meant).count();
        let (taken, _) = self.images.iter().find(|(_, meant)| *meant)?;
        if self.takes_all() || meant < 2 {
            return None;
        }
        let which = match self.wanted {
            Some(hdu) => format!("{meant} images called {hdu}"),
            None => format!("{meant} images"),
        };
        Some(format!(
            "{source} has {which}: {}; only HDU {taken} is read: name another one in the parameter \
             \"hdu\" of ReadFits (\"NAME\" or \"NAME,EXTVER\"), or take each with \"all\"",
            self.list()
        ))
    }

    fn list(&self) -> String {
        let titles = self.images.iter().map(|(title, _)| title.as_str());
        let mut list = titles.take(NAMED).collect::<Vec<_>>().join(", ");
        if let Some(more) = self.images.len().checked_sub(NAMED).filter(|more| *more > 0) {
            list.push_str(&format!(" and {more} more"));
        }
        list
    }
}

/// Whether an HDU has this name: `EXTNAME`, or `EXTNAME,EXTVER`.
fn is_called(unit: &Unit, wanted: &str) -> bool {
    let Some(name) = &unit.name else { return false };
    if name.eq_ignore_ascii_case(wanted) {
        return true;
    }
    // The standard: without EXTVER it is 1.
    wanted.rsplit_once(',').is_some_and(|(wanted, version)| {
        name.eq_ignore_ascii_case(wanted.trim())
            && version.trim().parse() == Ok(unit.version.unwrap_or(1))
    })
}
