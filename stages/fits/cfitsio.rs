//! The only place that names CFITSIO: a thin layer that cannot be misused.
//!
//! Every length is checked before C sees it, a file name is never parsed as an
//! expression, and a header's promises are checked before memory is reserved.
//! CFITSIO's stack of error messages is shared by all threads, so that it may
//! hold another file's messages: failures carry the status' own text instead.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt::Display;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{self, NonNull};

use fitsio_sys as sys;

use crate::prelude::*;

/// FITS files come in records of this many bytes.
const RECORD: u64 = 2880;

/// An HDU by its number, 0 is the primary one, or by its `EXTNAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected an HDU's number (0 is the primary one) or its EXTNAME")]
pub enum Hdu {
    /// The number, 0 is the primary HDU.
    Number(u32),
    /// The extension's name, in any case.
    Name(String),
}

impl Display for Hdu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Hdu::Number(number) => write!(f, "{number}"),
            Hdu::Name(name) => write!(f, "\"{name}\""),
        }
    }
}

/// What the header says of an image.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ImageLayout {
    /// The number of the HDU, 0 is the primary one.
    pub(crate) hdu: u32,
    /// The type of the stored values: 8, 16, 32, 64, -32 or -64.
    pub(crate) bitpix: i32,
    /// `NAXIS1` first.
    pub(crate) shape: Vec<usize>,
    /// The product of the shape.
    pub(crate) pixels: usize,
    /// `BSCALE` and `BZERO`: value = stored * scale + zero.
    pub(crate) scale: f64,
    pub(crate) zero: f64,
    /// Whether the image is stored in compressed tiles.
    pub(crate) tiled: bool,
}

/// Whether CFITSIO was built so that threads may use it at the same time.
///
/// # Errors
/// What to do about a CFITSIO that was not.
pub fn check_reentrant() -> Result<(), String> {
    // SAFETY: takes no argument and reads a constant.
    if unsafe { sys::fits_is_reentrant() } != 0 {
        return Ok(());
    }
    Err("this CFITSIO was not built for threads: rebuild it with --enable-reentrant, or drpipe \
         with its own copy (feature \"fitsio-src\")"
        .into())
}

/// An open FITS file. Stays on its thread and is closed when dropped.
pub(crate) struct FitsFile {
    handle: NonNull<sys::fitsfile>,
    name: String,
    /// The size in bytes, unless the file is compressed as a whole.
    plain_size: Option<u64>,
}

impl Drop for FitsFile {
    fn drop(&mut self) {
        let mut status = 0;
        // SAFETY: the handle came from ffdkopn and is closed only here. Closing
        // a file that was opened for reading loses nothing, so that a status is
        // of no interest.
        unsafe {
            sys::ffclos(self.handle.as_ptr(), &mut status);
            sys::ffcmsg();
        }
    }
}

impl FitsFile {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// A permanent failure if it is missing, empty or no FITS file; a
    /// retryable one if the system refused.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        check_reentrant().map_err(Failure::permanent)?;
        let name = path.display().to_string();
        let plain_size = look_at(path, &name)?;
        // A name that starts with "~" or a blank would not be taken as it is.
        let path = if path.is_relative() { Path::new(".").join(path) } else { path.to_path_buf() };
        let c_path = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| Failure::permanent(format!("{name:?} has a NUL in its name")))?;
        if c_path.as_bytes().len() > 1000 {
            return Err(Failure::permanent(format!(
                "{name}: the path is longer than the 1000 bytes that CFITSIO takes"
            )));
        }
        let mut handle = ptr::null_mut();
        let mut status = 0;
        // SAFETY: both pointers are to live variables, the name ends with NUL
        // and is shorter than CFITSIO's own limit of 1024.
        unsafe { sys::ffdkopn(&mut handle, c_path.as_ptr(), sys::READONLY as c_int, &mut status) };
        let Some(handle) = NonNull::new(handle).filter(|_| status == 0) else {
            return Err(failure(&name, "cannot be opened", status));
        };
        Ok(Self { handle, name, plain_size })
    }

    fn raw(&mut self) -> *mut sys::fitsfile {
        self.handle.as_ptr()
    }

    fn check(&self, status: c_int, doing: &str) -> Result<()> {
        if status == 0 { Ok(()) } else { Err(failure(&self.name, doing, status)) }
    }

    /// Moves to the image to read and describes it: the HDU asked for, or the
    /// first one with pixels.
    ///
    /// # Errors
    /// A permanent failure if there is none, or if its data end beyond the
    /// file's end.
    pub(crate) fn select(&mut self, hdu: Option<&Hdu>) -> Result<ImageLayout> {
        match hdu {
            None => self.select_first(),
            Some(hdu) => {
                self.move_to(hdu)?;
                self.layout()?.ok_or_else(|| {
                    Failure::permanent(format!("{}: HDU {hdu} has no image", self.name))
                })
            }
        }
    }

    fn select_first(&mut self) -> Result<ImageLayout> {
        let mut number = 1;
        while self.move_to_number(number)? {
            if let Some(layout) = self.layout()? {
                return Ok(layout);
            }
            number += 1;
        }
        let hdus = number - 1;
        Err(Failure::permanent(format!("{}: none of its {hdus} HDUs has an image", self.name)))
    }

    fn move_to(&mut self, hdu: &Hdu) -> Result<()> {
        let found = match hdu {
            Hdu::Number(number) => match c_int::try_from(*number) {
                Ok(number) if number < c_int::MAX => self.move_to_number(number + 1)?,
                _ => false,
            },
            Hdu::Name(name) => self.move_to_name(name)?,
        };
        if found {
            return Ok(());
        }
        Err(Failure::permanent(format!("{} has no HDU {hdu}", self.name)))
    }

    /// Moves to the HDU of this number, from 1; false if there are fewer.
    fn move_to_number(&mut self, number: c_int) -> Result<bool> {
        let (mut kind, mut status) = (0, 0);
        // SAFETY: the handle is open and the pointers are to live variables.
        unsafe { sys::ffmahd(self.raw(), number, &mut kind, &mut status) };
        if status == sys::END_OF_FILE as c_int && number > 1 {
            clear_messages();
            return Ok(false);
        }
        self.check(status, &format!("HDU {} cannot be read", number - 1))?;
        Ok(true)
    }

    fn move_to_name(&mut self, name: &str) -> Result<bool> {
        let Ok(c_name) = CString::new(name) else { return Ok(false) };
        let mut status = 0;
        // SAFETY: the handle is open, the name ends with NUL; CFITSIO reads
        // from it only.
        unsafe {
            sys::ffmnhd(self.raw(), sys::ANY_HDU, c_name.as_ptr().cast_mut(), 0, &mut status);
        }
        if status == sys::BAD_HDU_NUM as c_int {
            clear_messages();
            return Ok(false);
        }
        self.check(status, &format!("HDU \"{name}\" cannot be found"))?;
        Ok(true)
    }

    /// The image of the current HDU; none if it is a table or has no pixels.
    fn layout(&mut self) -> Result<Option<ImageLayout>> {
        let handle = self.raw();
        let (mut kind, mut number, mut status) = (0, 0, 0);
        let (mut bitpix, mut naxis) = (0, 0);
        // SAFETY: the handle is open and the pointers are to live variables.
        let tiled = unsafe {
            sys::ffghdt(handle, &mut kind, &mut status);
            sys::ffghdn(handle, &mut number);
            sys::fits_is_compressed_image(handle, &mut status) != 0
        };
        self.check(status, "the type of an HDU cannot be read")?;
        if kind != sys::IMAGE_HDU as c_int && !tiled {
            return Ok(None);
        }
        // SAFETY: as above.
        unsafe {
            sys::ffgidt(handle, &mut bitpix, &mut status);
            sys::ffgidm(handle, &mut naxis, &mut status);
        }
        self.check(status, "BITPIX and NAXIS cannot be read")?;
        let axes = self.axes(naxis)?;
        if axes.is_empty() || axes.contains(&0) {
            return Ok(None);
        }
        let (shape, pixels) = self.count_pixels(&axes)?;
        let size = u64::from(bitpix.unsigned_abs() / 8);
        self.check_extent(if tiled { None } else { Some((pixels as u64).saturating_mul(size)) })?;
        let scale = self.real("BSCALE")?.unwrap_or(1.0);
        let zero = self.real("BZERO")?.unwrap_or(0.0);
        let hdu = u32::try_from(number - 1).unwrap_or_default();
        Ok(Some(ImageLayout { hdu, bitpix, shape, pixels, scale, zero, tiled }))
    }

    fn axes(&mut self, naxis: c_int) -> Result<Vec<i64>> {
        let length = usize::try_from(naxis).unwrap_or(0);
        let mut axes = vec![0_i64; length];
        let mut status = 0;
        // SAFETY: the vector has room for the `naxis` values that are asked for.
        unsafe { sys::ffgiszll(self.raw(), naxis, axes.as_mut_ptr(), &mut status) };
        self.check(status, "NAXISn cannot be read")?;
        Ok(axes)
    }

    fn count_pixels(&self, axes: &[i64]) -> Result<(Vec<usize>, usize)> {
        let shape: Option<Vec<usize>> = axes.iter().map(|n| usize::try_from(*n).ok()).collect();
        let pixels = shape
            .as_ref()
            .and_then(|shape| shape.iter().try_fold(1_usize, |product, n| product.checked_mul(*n)));
        match (shape, pixels) {
            (Some(shape), Some(pixels)) => Ok((shape, pixels)),
            _ => Err(Failure::permanent(format!("{}: NAXISn make no size: {axes:?}", self.name))),
        }
    }

    /// Checks that the data of the current HDU lie within the file: `bytes` of
    /// them, or, if that is not known, all but the fill after them, which may
    /// be missing without harm.
    fn check_extent(&mut self, bytes: Option<u64>) -> Result<()> {
        let (mut header, mut start, mut end, mut status) = (0, 0, 0, 0);
        // SAFETY: the handle is open and the pointers are to live variables.
        unsafe {
            sys::ffghadll(self.raw(), &mut header, &mut start, &mut end, &mut status);
        }
        self.check(status, "the place of the data cannot be found")?;
        let Some(size) = self.plain_size else { return Ok(()) };
        let (start, end) = (u64::try_from(start).unwrap_or(0), u64::try_from(end).unwrap_or(0));
        let last = match bytes {
            Some(bytes) => start.saturating_add(bytes),
            None => end.saturating_sub(RECORD - 1),
        };
        if last <= size {
            return Ok(());
        }
        Err(Failure::permanent(format!(
            "{}: truncated: the header promises {} bytes, the file has {size}; fetch it again",
            self.name,
            end.max(last)
        )))
    }

    /// The value of a keyword that holds a real number; none if it is absent.
    fn real(&mut self, keyword: &str) -> Result<Option<f64>> {
        let c_keyword = CString::new(keyword)?;
        let (mut value, mut status) = (0.0, 0);
        // SAFETY: the handle is open, the keyword ends with NUL, the comment is
        // not asked for.
        unsafe {
            sys::ffgkyd(self.raw(), c_keyword.as_ptr(), &mut value, ptr::null_mut(), &mut status);
        }
        if status == sys::KEY_NO_EXIST as c_int || status == sys::VALUE_UNDEFINED as c_int {
            clear_messages();
            return Ok(None);
        }
        self.check(status, &format!("{keyword} is not a number"))?;
        Ok(Some(value))
    }

    /// The header of the current HDU, a card of at most 80 characters each, in
    /// order, without `END`. A byte beyond ASCII is taken as Latin-1.
    ///
    /// # Errors
    /// If CFITSIO cannot read a card.
    pub(crate) fn cards(&mut self) -> Result<Vec<String>> {
        let (mut count, mut free, mut status) = (0, 0, 0);
        // SAFETY: the handle is open and the pointers are to live variables.
        unsafe { sys::ffghsp(self.raw(), &mut count, &mut free, &mut status) };
        self.check(status, "the header cannot be read")?;
        let mut cards = Vec::new();
        for number in 1..=count {
            let mut card: [c_char; 81] = [0; 81];
            // SAFETY: a card has at most 80 characters and the NUL at its end.
            unsafe { sys::ffgrec(self.raw(), number, card.as_mut_ptr(), &mut status) };
            self.check(status, "a card of the header cannot be read")?;
            let bytes = card.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0);
            cards.push(bytes.map(char::from).collect());
        }
        Ok(cards)
    }

    /// Compares the current HDU with its `DATASUM`, if it has one, and on request
    /// also with its `CHECKSUM`, which covers the header.
    ///
    /// # Errors
    /// A permanent failure if one of them does not agree.
    pub(crate) fn verify_checksums(&mut self, with_header: bool) -> Result<()> {
        let (mut data, mut whole, mut status) = (0, 0, 0);
        // SAFETY: the handle is open and the pointers are to live variables.
        unsafe { sys::ffvcks(self.raw(), &mut data, &mut whole, &mut status) };
        self.check(status, "the checksums cannot be computed")?;
        let wrong = match (data, whole) {
            (-1, _) => "DATASUM",
            (_, -1) if with_header => "CHECKSUM",
            _ => return Ok(()),
        };
        Err(Failure::permanent(format!(
            "{}: damaged: its contents do not agree with its {wrong}; fetch it again",
            self.name
        )))
    }

    /// Reads stored values, without `BSCALE` and `BZERO`, from the pixel
    /// `first`, counted from 0, on. `BLANK` becomes NaN for integers.
    ///
    /// # Errors
    /// A permanent failure if the file holds fewer, or they are damaged.
    pub(crate) fn read_stored<T: Element>(
        &mut self,
        layout: &ImageLayout,
        first: usize,
        values: &mut [T],
    ) -> Result<()> {
        if first.checked_add(values.len()).is_none_or(|end| end > layout.pixels) {
            return Err(Failure::permanent(format!("{}: read beyond the image", self.name)));
        }
        let (first, count) = (first as i64 + 1, values.len() as i64);
        let mut blank = T::NAN;
        // With a value for missing pixels CFITSIO would turn infinite and
        // subnormal floats into others, so it gets one for integers only, and
        // for tiles whose floats are stored as integers.
        let with_blank = layout.bitpix > 0 || layout.tiled;
        let blank = if with_blank { (&raw mut blank).cast::<c_void>() } else { ptr::null_mut() };
        let (mut any, mut status) = (0, 0);
        // SAFETY: the handle is open; `values` has room for the `count`
        // elements of the type that `T::CODE` names, and `blank` is null or
        // points to one such value.
        unsafe {
            sys::ffpscl(self.raw(), 1.0, 0.0, &mut status);
            sys::ffgpv(
                self.raw(),
                T::CODE,
                first,
                count,
                blank,
                values.as_mut_ptr().cast::<c_void>(),
                &mut any,
                &mut status,
            );
        }
        self.check(status, "the pixels cannot be read")
    }
}

/// A type that CFITSIO can convert pixels to.
///
/// # Safety
/// `CODE` must be CFITSIO's name of this very type.
pub(crate) unsafe trait Element: Copy {
    const CODE: c_int;
    const NAN: Self;
}

// SAFETY: TFLOAT is C's float, an IEEE single.
unsafe impl Element for f32 {
    const CODE: c_int = sys::TFLOAT as c_int;
    const NAN: Self = f32::NAN;
}

// SAFETY: TDOUBLE is C's double, an IEEE double.
unsafe impl Element for f64 {
    const CODE: c_int = sys::TDOUBLE as c_int;
    const NAN: Self = f64::NAN;
}

/// Looks at a file before CFITSIO does, for errors that people understand.
/// Returns its size, unless it is compressed as a whole.
fn look_at(path: &Path, name: &str) -> Result<Option<u64>> {
    let metadata = fs::metadata(path).map_err(|error| io_failure(name, &error))?;
    if !metadata.is_file() {
        return Err(Failure::permanent(format!("{name} is not a regular file")));
    }
    if metadata.len() == 0 {
        return Err(Failure::permanent(format!("{name} is empty (0 bytes): fetch it again")));
    }
    let mut start = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(30).read_to_end(&mut start))
        .map_err(|error| io_failure(name, &error))?;
    if start.starts_with(b"SIMPLE") {
        return Ok(Some(metadata.len()));
    }
    if start.starts_with(b"\x1f\x8b") {
        return Ok(None);
    }
    Err(Failure::permanent(format!(
        "{name} is not a FITS file: it starts with \"{}\", not with SIMPLE",
        start.escape_ascii()
    )))
}

fn io_failure(name: &str, error: &io::Error) -> Failure {
    let message = format!("{name} cannot be opened: {error}");
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Failure::permanent(message),
        _ => Failure::retryable(message),
    }
}

fn failure(name: &str, doing: &str, status: c_int) -> Failure {
    let mut text: [c_char; 81] = [0; 81];
    // SAFETY: the text of a status has at most 30 characters.
    unsafe { sys::ffgerr(status, text.as_mut_ptr()) };
    clear_messages();
    // SAFETY: the last byte is still the NUL that it was made of.
    let text = unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy();
    let hint = match status as u32 {
        sys::END_OF_FILE | sys::READ_ERROR => ": truncated or damaged; fetch it again",
        sys::DATA_DECOMPRESSION_ERR => ": the compressed data are damaged; fetch it again",
        _ => "",
    };
    let message = format!("{name}: {doing}{hint} (CFITSIO status {status}: {text})");
    match status as u32 {
        sys::TOO_MANY_FILES | sys::FILE_NOT_OPENED | sys::MEMORY_ALLOCATION => {
            Failure::retryable(message)
        }
        _ => Failure::permanent(message),
    }
}

fn clear_messages() {
    // SAFETY: takes no argument; CFITSIO guards the stack with a lock.
    unsafe { sys::ffcmsg() };
}
