//! Products: files that a stage writes, whole or not at all, and never one in another's place.
//!
//! A stage opens [`Products`] in `init` and writes one product per input in `run`; a stage
//! that makes one file of all its inputs opens a [`StepProduct`].
//!
//! ```
//! use std::io::Write;
//! use std::path::PathBuf;
//!
//! use drpipe::prelude::*;
//! use drpipe::product::{Overwrite, Products};
//! use drpipe::testing;
//!
//! #[derive(Serialize, Deserialize)]
//! struct Spectrum { name: String, source: String, counts: Buffer<f32> }
//!
//! impl Data for Spectrum {
//!     const TYPE: &'static str = "lab/Spectrum/1";
//! }
//!
//! /// Saves each spectrum as a text file.
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct SaveSpectrum {
//!     /// Where the files go.
//!     #[schemars(extend("writes" = "directory"))]
//!     directory: PathBuf,
//!     #[serde(skip)]
//!     products: Products,
//! }
//!
//! impl Consumer for SaveSpectrum {
//!     type In = Spectrum;
//!
//!     fn init(&mut self, context: &Context) -> Result<()> {
//!         let products = Products::open(&self.directory, Overwrite::Own, context)?;
//!         // Plain text has no place for the pipeline's mark.
//!         self.products = products.with_suffix(".txt").with_records();
//!         Ok(())
//!     }
//!
//!     fn run(&mut self, spectrum: Spectrum) -> Result<()> {
//!         self.products.write_whole(&spectrum.name, &spectrum.source, |file| {
//!             spectrum.counts.iter().try_for_each(|count| Ok(writeln!(file, "{count}")?))
//!         })?;
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! # let directory = tempfile::tempdir()?;
//! let save = SaveSpectrum { directory: directory.path().into(), products: Products::default() };
//! let spectrum = Spectrum {
//!     name: "vega".into(),
//!     source: "raw/vega.fits".into(),
//!     counts: vec![1.5, 2.0].into(),
//! };
//! let run = testing::consume(save, [spectrum])?;
//! assert_eq!(std::fs::read_to_string(&run.products[0])?, "1.5\n2\n");
//! # Ok(())
//! # }
//! ```
//!
//! # What is guaranteed
//!
//! - **Whole or absent.** A file gets its name when it is complete and on the disk. If `run`
//!   fails or panics, or the process is killed, no file of that name appears, and an older
//!   one stays as it was. Where the file system supports nameless files (ext4, XFS, Btrfs,
//!   tmpfs) nothing else is left either. Elsewhere a kill leaves a hidden `.drpipe-*.part`;
//!   so does, anywhere, a kill in the microseconds in which an older file is replaced.
//! - **Full disk.** The write or the commit fails, with the system's error; the file is gone
//!   and its blocks are free again.
//! - **Power cut.** A product that was committed survives it, contents and name.
//! - **No name for two inputs.** A name belongs to the input that claimed it first, in all
//!   steps, threads and processes of the run. A second input is refused with a permanent
//!   failure that names both. An attempt of the same input may claim its name again, for a
//!   retry replaces what an earlier attempt left; one attempt cannot make two products of one
//!   name. Outside `run`, in `finish` or in a producer, products are told apart by their
//!   source alone.
//! - **No raw file replaced.** A product never replaces the file that it is made from, nor,
//!   with [`Overwrite::Own`], a file that an earlier run of this pipeline did not make.
//! - **Announced once.** A committed product appears in events, journal and monitor, if the
//!   call of the stage that made it succeeds.
//!
//! # Threads and blocking
//!
//! Claim and commit on the thread that runs the stage; on another one both fail. A
//! [`PendingProduct`] is written on any thread. Commit blocks until the disk confirms, which
//! takes some milliseconds for a small file; claims block for microseconds.

mod claims;
mod ownership;
mod pending;
mod step_product;
mod whole_file;

use std::fs;
use std::path::{Path, PathBuf};

use crate::base::failure::{Failure, Result};
use crate::base::path_name::path_of_name;
use crate::stage::{Context, scope};
use claims::{Claims, refuse_other};
use ownership::Ownership;
use pending::other_thread;
use whole_file::make_directory;

pub use ownership::{Overwrite, carries_mark_of};
pub use pending::PendingProduct;
pub use step_product::StepProduct;
pub use whole_file::{WholeFile, write_whole};

/// A directory for the products of one step.
///
/// The default value is a placeholder for a stage's field until `init`: it refuses every
/// product.
#[derive(Default)]
pub struct Products {
    directory: PathBuf,
    suffix: String,
    step: String,
    claims: Option<Claims>,
    ownership: Ownership,
    has_records: bool,
}

impl Products {
    /// Opens the directory and makes it, with its parents, if it is missing.
    ///
    /// # Errors
    /// A permanent failure if something else is in its place; otherwise the system's.
    pub fn open(directory: &Path, overwrite: Overwrite, context: &Context) -> Result<Self> {
        make_directory(directory)?;
        // A directory and a link to it are one directory.
        Ok(Self {
            directory: fs::canonicalize(directory)?,
            step: context.step().to_owned(),
            claims: Some(Claims::of(context)?),
            ownership: Ownership::new(overwrite, context),
            ..Self::default()
        })
    }

    /// Appends `suffix`, such as `".fits"`, to the name of every product.
    #[must_use]
    pub fn with_suffix(self, suffix: &str) -> Self {
        Self { suffix: suffix.to_owned(), ..self }
    }

    /// Keeps a hidden record beside each product of the pipeline that made it, for formats
    /// that have no place for the [mark](Self::mark): `.x.txt.drpipe` for `x.txt`.
    #[must_use]
    pub fn with_records(self) -> Self {
        Self { has_records: true, ..self }
    }

    /// The text by which a product names the pipeline that made it.
    ///
    /// With [`Overwrite::Own`] a later run replaces a product only if it contains this text
    /// (a FITS file in HISTORY, any other file in its first 4096 bytes), or has a
    /// [record](Self::with_records). Parameters do not change it.
    pub fn mark(&self) -> &str {
        self.ownership.mark()
    }

    /// Claims the name `name` plus suffix for the current input and begins the product.
    ///
    /// Separators, control characters and a leading point of `name` become `_`, so that the
    /// product stays in its directory. `source` is what people call the input, usually the
    /// path of a file; messages contain it, and that file is never replaced.
    ///
    /// # Errors
    /// A permanent failure if the name is empty or longer than 255 bytes, if it belongs to
    /// another input, to the source itself or to a file that must not be replaced, or if no
    /// stage runs on this thread; otherwise that of the file system.
    pub fn claim(&self, name: &str, source: &str) -> Result<PendingProduct> {
        let Some(claims) = &self.claims else {
            return Err(Failure::permanent("a product was claimed before Products::open"));
        };
        let call = scope::current().ok_or_else(other_thread)?;
        let path = self.directory.join(file_name(name, &self.suffix)?);
        refuse_input(&path, source)?;
        let owner = format!("{source} (step {}, message {})", self.step, call.message);
        let known = claims.owner(&path)?;
        refuse_other(&path, known.as_ref().filter(|known| **known != owner), &owner)?;
        // Claimed only if it may be written: a name that was refused stays free.
        self.ownership.check_before(&path, known.is_some())?;
        refuse_other(&path, claims.claim(&path, &owner)?.as_ref(), &owner)?;
        PendingProduct::begin(&path, &self.ownership, known.is_some(), self.has_records)
    }

    /// Writes one product: claims its name, lets `write` fill it and commits it. Returns its
    /// path.
    ///
    /// # Errors
    /// Those of [`Self::claim`], of `write` and of [`PendingProduct::commit`]. There is no
    /// such product then.
    pub fn write_whole(
        &self,
        name: &str,
        source: &str,
        write: impl FnOnce(&mut PendingProduct) -> Result<()>,
    ) -> Result<PathBuf> {
        self.claim(name, source)?.fill(write)
    }
}

/// Refuses a product in the directory of the raw files that would replace its own input.
fn refuse_input(path: &Path, source: &str) -> Result<()> {
    match (fs::canonicalize(path), fs::canonicalize(path_of_name(source))) {
        (Ok(product), Ok(input)) if product == input => Err(Failure::permanent(format!(
            "{} is the input itself and would be overwritten: choose another directory",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Makes a file name that stays in its directory: separators and control characters become
/// "_", as does a leading point, which would hide the file.
fn file_name(name: &str, suffix: &str) -> Result<String> {
    if name.trim().is_empty() {
        return Err(Failure::permanent("a product needs a name, but this one's is empty"));
    }
    let replace = |c: char| if c == '/' || c == '\\' || c.is_control() { '_' } else { c };
    let mut clean: String = name.chars().map(replace).collect();
    if clean.starts_with('.') {
        clean.replace_range(..1, "_");
    }
    clean.extend(suffix.chars().map(replace));
    if clean.len() > 255 {
        return Err(Failure::permanent(format!(
            "the file name {clean} is longer than the 255 bytes that file systems allow"
        )));
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::testing::TestBench;

    fn in_call<R>(message: u64, work: impl FnOnce() -> R) -> R {
        let _call = scope::Scope::enter(message);
        work()
    }

    fn open(directory: &Path, run: &str, step: &str, overwrite: Overwrite) -> Products {
        let bench = TestBench::new().run_name(run).step(step);
        Products::open(directory, overwrite, bench.context()).unwrap().with_suffix(".txt")
    }

    fn save(products: &Products, name: &str, source: &str, text: &str) -> Result<PathBuf> {
        let text = format!("{text}\n{}", products.mark());
        in_call(0, || {
            products.write_whole(name, source, |file| Ok(file.write_all(text.as_bytes())?))
        })
    }

    #[test]
    fn two_ways_to_one_folder_are_one_folder() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let first = open(&real, "run-l", "FIRST", Overwrite::Own);
        let second = open(&link, "run-l", "SECOND", Overwrite::Own);
        save(&first, "x", "a.fits", "first").unwrap();
        assert!(save(&second, "x", "a.fits", "second").is_err());
    }

    #[test]
    fn two_messages_from_one_source_never_share_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let products = open(directory.path(), "run-m", "SAVE", Overwrite::Own);
        let write = |file: &mut PendingProduct| Ok(file.write_all(products.mark().as_bytes())?);
        let save = |message| in_call(message, || products.write_whole("x", "a.fits", write));
        save(1).unwrap();
        save(1).unwrap();
        assert!(save(2).unwrap_err().to_string().contains("message 1"));
    }

    #[test]
    fn two_inputs_of_a_run_never_share_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let products = open(directory.path(), "run-a", "SAVE", Overwrite::Own);
        let path = save(&products, "x", "a/x.fits", "first").unwrap();
        let error = save(&products, "x", "b/x.fits", "second").unwrap_err();
        assert!(!error.is_retryable());
        let message = error.to_string();
        assert!(message.contains("a/x.fits") && message.contains("b/x.fits"), "{message}");
        assert!(fs::read_to_string(path).unwrap().starts_with("first\n"));
    }

    #[test]
    fn two_steps_of_a_run_never_share_a_file() {
        let directory = tempfile::tempdir().unwrap();
        for (step, ok) in [("ONE", true), ("TWO", false)] {
            let products = open(directory.path(), "run-b", step, Overwrite::Own);
            assert_eq!(save(&products, "x", "x.fits", step).is_ok(), ok);
        }
    }

    #[test]
    fn a_retry_and_another_run_may_replace_a_file() {
        let directory = tempfile::tempdir().unwrap();
        for (run, text) in [("run-c", "1"), ("run-c", "2"), ("run-d", "3")] {
            let products = open(directory.path(), run, "SAVE", Overwrite::Own);
            let source = if run == "run-c" { "x.fits" } else { "y.fits" };
            let path = save(&products, "x", source, text).unwrap();
            assert!(fs::read_to_string(path).unwrap().starts_with(&format!("{text}\n")));
        }
    }

    #[test]
    fn a_file_that_no_run_made_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.txt");
        fs::write(&path, "precious").unwrap();
        let own = open(directory.path(), "run-f", "SAVE", Overwrite::Own);
        let error = save(&own, "x", "raw/x.fits", "new").unwrap_err();
        assert!(error.to_string().contains("no earlier run of this pipeline"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let always = open(directory.path(), "run-f", "SAVE", Overwrite::Always);
        save(&always, "x", "raw/x.fits", "new").unwrap();
        // What is there was made by another step of this run for the same input.
        let never = open(directory.path(), "run-f", "SAVE", Overwrite::Never);
        save(&never, "x", "raw/x.fits", "newer").unwrap();
        let never = open(directory.path(), "run-g", "SAVE", Overwrite::Never);
        for _ in 0..2 {
            assert!(save(&never, "x", "raw/x.fits", "third").is_err());
        }
        assert!(fs::read_to_string(&path).unwrap().starts_with("newer"));
    }

    #[test]
    fn a_product_never_replaces_its_input() {
        let directory = tempfile::tempdir().unwrap();
        let input = directory.path().join("x.txt");
        fs::write(&input, "raw").unwrap();
        let products = open(directory.path(), "run-e", "SAVE", Overwrite::Own);
        let error = save(&products, "x", input.to_str().unwrap(), "new").unwrap_err();
        assert!(error.to_string().contains("the input itself"), "{error}");
        assert_eq!(fs::read_to_string(&input).unwrap(), "raw");
    }

    #[test]
    fn one_attempt_makes_no_two_products_of_one_name() {
        let directory = tempfile::tempdir().unwrap();
        let products = open(directory.path(), "run-h", "SAVE", Overwrite::Own);
        let write = |text: &str| {
            let text = format!("{text}\n{}", products.mark());
            products.write_whole("x", "a.fits", |file| Ok(file.write_all(text.as_bytes())?))
        };
        for attempt in ["first", "second"] {
            in_call(1, || {
                // What was not committed is no product.
                drop(products.claim("x", "a.fits").unwrap());
                write(attempt).unwrap();
                let error = write("another").unwrap_err();
                assert!(!error.is_retryable() && error.to_string().contains("the same input"));
            });
            let text = fs::read_to_string(directory.path().join("x.txt")).unwrap();
            assert!(text.starts_with(attempt), "{text}");
        }
    }

    #[test]
    fn on_another_thread_nothing_is_claimed_or_committed() {
        let directory = tempfile::tempdir().unwrap();
        let products = open(directory.path(), "run-i", "SAVE", Overwrite::Own);
        let pending = in_call(1, || products.claim("x", "a.fits")).unwrap();
        let refused = std::thread::spawn(move || pending.commit()).join().unwrap().unwrap_err();
        assert!(refused.to_string().contains("another thread"), "{refused}");
        assert!(products.claim("x", "a.fits").is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let placeholder = in_call(1, || Products::default().claim("x", "a.fits").err());
        assert!(placeholder.unwrap().to_string().contains("before Products::open"));
    }

    #[test]
    fn names_stay_in_their_directory() {
        assert_eq!(file_name("../x", ".png").unwrap(), "_._x.png");
        assert_eq!(file_name("/etc/passwd", "").unwrap(), "_etc_passwd");
        assert_eq!(file_name("..", "").unwrap(), "_.");
        assert_eq!(file_name("x", "/../y.fits").unwrap(), "x_.._y.fits");
        assert_eq!(file_name("M 31\n", ".fits").unwrap(), "M 31_.fits");
        for bad in ["", "  ", &"n".repeat(300)] {
            assert!(file_name(bad, ".png").is_err(), "{bad:?}");
        }
    }
}
