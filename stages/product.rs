//! The products of a run: never one in another's place.

use std::fs;
use std::path::{Path, PathBuf};

use super::claims::Claims;
use super::own::{Guard, Overwrite};
use super::whole_file::{PendingFile, make_directory, write_guarded};
use crate::prelude::*;

/// A folder for products of one step.
#[derive(Default)]
pub(crate) struct Products {
    directory: PathBuf,
    step: String,
    claims: Claims,
    guard: Guard,
}

impl Products {
    /// Makes the folder if it is missing.
    ///
    /// # Errors
    /// If it cannot be made or is something else.
    pub(crate) fn open(directory: &Path, overwrite: Overwrite, context: &Context) -> Result<Self> {
        make_directory(directory)?;
        // Two ways to one folder, by a link, are one folder.
        let directory = fs::canonicalize(directory)?;
        let (step, claims) = (context.step().to_owned(), Claims::of(context)?);
        Ok(Self { directory, step, claims, guard: Guard::new(overwrite, context) })
    }

    /// What a product has to say of the pipeline that makes it.
    pub(crate) fn mark(&self) -> &str {
        self.guard.mark()
    }

    /// Writes the file `name` + `suffix`; returns its path. An older file of
    /// that name is replaced if it may be, but never one that another input of this run
    /// made, nor the input itself. What is written has the [mark](Self::mark) in it.
    ///
    /// # Errors
    /// A permanent failure if the name is unusable, or taken by another input or by a file
    /// that may not be replaced;
    /// otherwise that of `write` or of the file system.
    pub(crate) fn write(
        &self,
        name: &str,
        suffix: &str,
        source: &str,
        message: u64,
        write: impl FnOnce(&mut PendingFile) -> Result<()>,
    ) -> Result<PathBuf> {
        let path = self.directory.join(file_name(name, suffix)?);
        refuse_input(&path, source)?;
        let owner = format!("{source} (step {}, message {message})", self.step);
        let known = self.claims.owner(&path)?;
        refuse_other(&path, known.as_ref().filter(|known| **known != owner), &owner)?;
        // Claimed only if it may be written: a refused product is not there.
        self.guard.check_begun(&path, known.is_some())?;
        refuse_other(&path, self.claims.claim(&path, &owner)?.as_ref(), &owner)?;
        write_guarded(&path, &self.guard, known.is_some(), write)?;
        Ok(path)
    }
}

/// Of two inputs the second would replace the product of the first.
fn refuse_other(path: &Path, other: Option<&String>, owner: &str) -> Result<()> {
    match other {
        None => Ok(()),
        Some(other) => Err(Failure::permanent(format!(
            "{} was already made from {other} and would be overwritten by {owner}: give their \
             products different names or directories",
            path.display()
        ))),
    }
}

/// A product in the folder of the raw files could take the place of its input.
fn refuse_input(path: &Path, source: &str) -> Result<()> {
    match (fs::canonicalize(path), fs::canonicalize(path_of_name(source))) {
        (Ok(product), Ok(input)) if product == input => Err(Failure::permanent(format!(
            "{} is the input itself and would be overwritten: choose another directory",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// A file name that stays in its directory: separators and control characters
/// become "_", as does a leading point, which would hide the file.
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
            "the file name {clean} is longer than the 255 bytes that file systems take"
        )));
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::stages::testing::context_of;

    fn save(products: &Products, name: &str, source: &str, text: &str) -> Result<PathBuf> {
        let text = format!("{text}\n{}", products.mark());
        products.write(name, ".txt", source, 0, |writer| Ok(writer.write_all(text.as_bytes())?))
    }

    #[test]
    fn two_ways_to_one_folder_are_one_folder() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let first =
            Products::open(&real, Overwrite::Own, &context_of("run-l", "FIRST", &[])).unwrap();
        let second =
            Products::open(&link, Overwrite::Own, &context_of("run-l", "SECOND", &[])).unwrap();
        save(&first, "x", "a.fits", "first").unwrap();
        assert!(save(&second, "x", "a.fits", "second").is_err());
    }

    #[test]
    fn two_messages_from_one_source_never_share_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let products =
            Products::open(directory.path(), Overwrite::Own, &context_of("run-m", "SAVE", &[]))
                .unwrap();
        let save = |message| {
            products.write("x", ".txt", "a.fits", message, |writer| {
                Ok(writer.write_all(products.mark().as_bytes())?)
            })
        };
        save(1).unwrap();
        save(1).unwrap();
        assert!(save(2).unwrap_err().to_string().contains("message 1"));
    }

    #[test]
    fn two_inputs_of_a_run_never_share_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let products =
            Products::open(directory.path(), Overwrite::Own, &context_of("run-a", "SAVE", &[]))
                .unwrap();
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
            let context = context_of("run-b", step, &[]);
            let products = Products::open(directory.path(), Overwrite::Own, &context).unwrap();
            assert_eq!(save(&products, "x", "x.fits", step).is_ok(), ok);
        }
    }

    #[test]
    fn a_retry_and_another_run_may_replace_a_file() {
        let directory = tempfile::tempdir().unwrap();
        for (run, text) in [("run-c", "1"), ("run-c", "2"), ("run-d", "3")] {
            let products =
                Products::open(directory.path(), Overwrite::Own, &context_of(run, "SAVE", &[]))
                    .unwrap();
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
        let context = context_of("run-f", "SAVE", &[]);
        let own = Products::open(directory.path(), Overwrite::Own, &context).unwrap();
        let error = save(&own, "x", "raw/x.fits", "new").unwrap_err();
        assert!(error.to_string().contains("no earlier run of this pipeline"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let always = Products::open(directory.path(), Overwrite::Always, &context).unwrap();
        save(&always, "x", "raw/x.fits", "new").unwrap();
        // What is there was made by another step of this run for the same input.
        let never = Products::open(directory.path(), Overwrite::Never, &context).unwrap();
        save(&never, "x", "raw/x.fits", "newer").unwrap();
        let context = context_of("run-g", "SAVE", &[]);
        let never = Products::open(directory.path(), Overwrite::Never, &context).unwrap();
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
        let products =
            Products::open(directory.path(), Overwrite::Own, &context_of("run-e", "SAVE", &[]))
                .unwrap();
        let error = save(&products, "x", input.to_str().unwrap(), "new").unwrap_err();
        assert!(error.to_string().contains("the input itself"), "{error}");
        assert_eq!(fs::read_to_string(&input).unwrap(), "raw");
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
