//! The one product of a step that gathers its inputs.

use std::path::{Path, PathBuf};

use super::ownership::{Overwrite, Ownership};
use super::pending::PendingProduct;
use super::whole_file::{check_target, directory_of, make_directory};
use crate::base::failure::Result;
use crate::stage::Context;

/// The one product that a step makes of all its inputs, such as a table or a page.
///
/// Open it in `init`, so that a file that must not be replaced ends the run before any work;
/// write it in `finish`, or fill a [`PendingProduct`] as inputs come and commit it in
/// `finish`. The class must be `SINGLETON`. The default value refuses to be written.
///
/// ```
/// use std::io::Write;
///
/// use drpipe::prelude::*;
/// use drpipe::product::{Overwrite, StepProduct};
/// use drpipe::testing;
///
/// /// Writes how many texts there were.
/// #[derive(Default, Deserialize, JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// struct Count {
///     /// The file to write.
///     #[schemars(extend("writes" = "file"))]
///     file: std::path::PathBuf,
///     #[serde(skip)]
///     count: u64,
///     #[serde(skip)]
///     product: StepProduct,
/// }
///
/// impl Consumer for Count {
///     type In = String;
///     const SINGLETON: bool = true;
///     const STATEFUL: bool = true;
///
///     fn init(&mut self, context: &Context) -> Result<()> {
///         self.product = StepProduct::open(&self.file, Overwrite::Own, context)?.with_record();
///         Ok(())
///     }
///
///     fn run(&mut self, _: String) -> Result<()> {
///         self.count += 1;
///         Ok(())
///     }
///
///     fn finish(&mut self) -> Result<()> {
///         self.product.write_whole(|file| Ok(writeln!(file, "{}", self.count)?))?;
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<()> {
/// # let directory = tempfile::tempdir()?;
/// let file = directory.path().join("count.txt");
/// let count = Count { file: file.clone(), ..Count::default() };
/// testing::consume(count, ["a".to_owned(), "b".to_owned()])?;
/// assert_eq!(std::fs::read_to_string(file)?, "2\n");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct StepProduct {
    path: PathBuf,
    ownership: Ownership,
    has_record: bool,
}

impl StepProduct {
    /// Checks the name and makes the directory of the file if it is missing.
    ///
    /// # Errors
    /// A permanent failure if `file` cannot name a regular file, or another file has the name
    /// and must not be replaced; otherwise the system's.
    pub fn open(file: &Path, overwrite: Overwrite, context: &Context) -> Result<Self> {
        make_directory(directory_of(file))?;
        check_target(file)?;
        let ownership = Ownership::new(overwrite, context);
        ownership.check(file, false)?;
        Ok(Self { path: file.to_owned(), ownership, has_record: false })
    }

    /// Keeps a hidden record beside the product, as [`Products::with_records`].
    #[must_use]
    pub fn with_record(self) -> Self {
        Self { has_record: true, ..self }
    }

    /// The text by which the product names the pipeline that made it, as [`Products::mark`].
    pub fn mark(&self) -> &str {
        self.ownership.mark()
    }

    /// The name of the product.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins the product.
    ///
    /// # Errors
    /// If its directory accepts no file.
    pub fn begin(&self) -> Result<PendingProduct> {
        PendingProduct::begin(&self.path, &self.ownership, false, self.has_record)
    }

    /// Writes the product: lets `write` fill it and commits it. Returns its path.
    ///
    /// # Errors
    /// Those of [`Self::begin`], of `write` and of [`PendingProduct::commit`]. There is no
    /// such product then.
    pub fn write_whole(
        &self,
        write: impl FnOnce(&mut PendingProduct) -> Result<()>,
    ) -> Result<PathBuf> {
        self.begin()?.fill(write)
    }
}
