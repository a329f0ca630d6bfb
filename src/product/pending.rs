//! A product that is being written.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::ownership::{self, Fingerprint, Ownership};
use super::whole_file::{WholeFile, describe};
use crate::base::failure::{Context as _, Failure, Result};
use crate::stage::notes::announce_product;
use crate::stage::scope;

/// A product that is being written: write to it, then [`commit`](Self::commit). If it is dropped
/// before, no file appears.
pub struct PendingProduct {
    file: WholeFile,
    ownership: Ownership,
    /// Whether this run made a product of this name from the same input before.
    again: bool,
    /// Of what was written so far, if a record is kept.
    fingerprint: Option<Fingerprint>,
}

impl PendingProduct {
    pub(super) fn begin(
        path: &Path,
        ownership: &Ownership,
        again: bool,
        has_record: bool,
    ) -> Result<Self> {
        Ok(Self {
            file: WholeFile::create(path)?,
            ownership: ownership.clone(),
            again,
            fingerprint: has_record.then(Fingerprint::default),
        })
    }

    pub(super) fn fill(mut self, write: impl FnOnce(&mut Self) -> Result<()>) -> Result<PathBuf> {
        write(&mut self).with_context(|| describe(self.file.path()))?;
        self.commit()
    }

    /// Writes the contents to the disk, names the file and announces the product. Returns
    /// its path. Blocks until contents and name are safe from a power cut.
    ///
    /// # Errors
    /// Those of the file system; a permanent failure if a file appeared in the meantime that
    /// must not be replaced, or if no stage runs on this thread. The name then stays as it
    /// was, unless the disk fails after the file was named.
    pub fn commit(self) -> Result<PathBuf> {
        let Self { file, ownership, again, fingerprint } = self;
        if scope::current().is_none() {
            return Err(other_thread());
        }
        let path = file.path().to_owned();
        if scope::has_announced(&path) {
            return Err(Failure::permanent(format!(
                "{} was already made from the same input: give its products different names",
                path.display()
            )));
        }
        let synced = file.sync()?;
        if let Some(fingerprint) = fingerprint {
            ownership::record(&path, ownership.mark(), &fingerprint)?;
        }
        if let Some(synced) = synced.publish_new()? {
            ownership.check_written(&path, again, synced.file())?;
            synced.publish()?;
        }
        announce_product(&path);
        Ok(path)
    }
}

impl Write for PendingProduct {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        if let Some(fingerprint) = &mut self.fingerprint {
            fingerprint.write_all(&bytes[..written])?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

pub(super) fn other_thread() -> Failure {
    Failure::permanent(
        "a product is claimed and committed on the thread that runs the stage; this is another \
         thread",
    )
}
