//! The one product of a step that gathers its inputs.

use std::fs;
use std::path::{Path, PathBuf};

use super::claims::{Claims, refuse_other};
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
    /// Claims the name for the step and makes the directory of the file if it is missing.
    ///
    /// # Errors
    /// A permanent failure if `file` cannot name a regular file, if it belongs to a product of
    /// another step, or if a file has the name that must not be replaced; otherwise the
    /// system's.
    pub fn open(file: &Path, overwrite: Overwrite, context: &Context) -> Result<Self> {
        make_directory(directory_of(file))?;
        check_target(file)?;
        let ownership = Ownership::new(overwrite, context);
        ownership.check(file, false)?;
        let owner = format!("all inputs of step {}", context.step());
        let other = Claims::of(context)?.claim(&full_name(file)?, &owner)?;
        refuse_other(file, other.as_ref(), &owner)?;
        Ok(Self { path: file.to_owned(), ownership, has_record: false })
    }

    /// Keeps a hidden record beside the product, as [`Products::with_records`](super::Products::with_records).
    #[must_use]
    pub fn with_record(self) -> Self {
        Self { has_record: true, ..self }
    }

    /// The text by which the product names the pipeline that made it, as [`Products::mark`](super::Products::mark).
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

/// The name of the file in its directory, whatever links lead to that.
fn full_name(file: &Path) -> Result<PathBuf> {
    let directory = fs::canonicalize(directory_of(file))?;
    Ok(directory.join(file.file_name().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestBench;

    #[test]
    fn two_steps_never_share_a_file_but_a_worker_may_follow_another() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("table.txt");
        let bench = TestBench::new().step("FIRST");
        let open = |bench: &TestBench, file: &Path| {
            StepProduct::open(file, Overwrite::Own, bench.context())
        };
        open(&bench, &file).unwrap();
        open(&bench, &file).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(directory.path(), &link).unwrap();
        let refused = open(&bench.clone().step("SECOND"), &link.join("table.txt")).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("step FIRST") && text.contains("step SECOND"), "{text}");
        assert!(open(&TestBench::new().step("SECOND"), &file).is_ok(), "another run");
    }
}
