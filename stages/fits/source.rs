//! Reads the bytes of a FITS file in order and unpacks them on the way.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::bufread::GzDecoder;

use crate::prelude::*;

/// FITS files come in records of this many bytes.
pub(super) const RECORD: u64 = 2880;
/// The bytes that are read at a time.
pub(super) const PORTION: usize = 256 << 10;

/// The first bytes of other compressed files, and the programs that unpack them.
const PACKED: &[(&[u8], &str, &str)] = &[
    (b"BZh", "bzip2", "bunzip2"),
    (b"\x1f\x9d", "compress", "gunzip"),
    (b"\xfd7zXZ", "xz", "unxz"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
    (b"PK\x03\x04", "zip", "unzip"),
];

/// A FITS file that is read in order. Nothing is kept, and a gzipped file is unpacked only as far
/// as it is read.
pub(super) struct Source {
    name: String,
    bytes: Bytes,
    /// The position in unpacked bytes.
    position: u64,
    /// Limits the bytes that a gzipped file may unpack to.
    limit: u64,
    /// Memory for bytes that are skipped.
    scratch: Vec<u8>,
}

enum Bytes {
    Plain { file: File, size: u64 },
    Gzipped(Members),
}

impl Source {
    /// # Errors
    /// A permanent failure if the file is missing, empty or no FITS file; a retryable
    /// one if the system refused.
    pub(super) fn open(path: &Path, limit: u64) -> Result<Self> {
        let name = name_of_path(path);
        let metadata = fs::metadata(path).map_err(|error| io_failure(&name, &error))?;
        if !metadata.is_file() {
            return Err(Failure::permanent(format!("{name} is not a regular file")));
        }
        if metadata.len() == 0 {
            return Err(Failure::permanent(format!("{name} is empty (0 bytes): fetch it again")));
        }
        let mut file = File::open(path).map_err(|error| io_failure(&name, &error))?;
        let mut start = Vec::new();
        (&mut file).take(30).read_to_end(&mut start).map_err(|error| io_failure(&name, &error))?;
        file.rewind().map_err(|error| io_failure(&name, &error))?;
        let bytes = match kind_of(&start) {
            Kind::Fits => Bytes::Plain { file, size: metadata.len() },
            Kind::Gzip => Bytes::Gzipped(Members::new(file)),
            Kind::Other(what) => {
                return Err(Failure::permanent(format!("{name} is not a FITS file: it {what}")));
            }
        };
        Ok(Self { name, bytes, position: 0, limit, scratch: Vec::new() })
    }

    /// The file's path, for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The size in bytes, if it is known before the file is read.
    pub(super) fn size(&self) -> Option<u64> {
        match &self.bytes {
            Bytes::Plain { size, .. } => Some(*size),
            Bytes::Gzipped(_) => None,
        }
    }

    /// Reads until `buffer` is full or the file ends; returns the number of bytes.
    ///
    /// # Errors
    /// If the file is damaged, unpacks to more than the limit, or cannot be read.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let read = match &mut self.bytes {
                Bytes::Plain { file, .. } => file.read(rest),
                Bytes::Gzipped(members) => members.read(rest),
            };
            match read {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failure(&error)),
            }
        }
        self.position += filled as u64;
        if self.size().is_none() && self.position > self.limit {
            return Err(Failure::permanent(format!(
                "{}: unpacks to more than the limit of {} bytes: raise the parameter \"max_bytes\" \
                 of ReadFits if the file is right",
                self.name, self.limit
            )));
        }
        Ok(filled)
    }

    /// Reads exactly as many bytes as `buffer` has.
    ///
    /// # Errors
    /// As [`Source::read`], or if the file ends before.
    pub(super) fn read_exact(&mut self, buffer: &mut [u8]) -> Result<()> {
        if self.read(buffer)? == buffer.len() { Ok(()) } else { Err(self.truncated()) }
    }

    /// Reads `count` bytes into a vector that grows with what the file contains, whatever its
    /// header promises.
    ///
    /// # Errors
    /// As [`Source::read_exact`].
    pub(super) fn read_vec(&mut self, count: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < count {
            let portion = (count - bytes.len() as u64).min(PORTION as u64) as usize;
            bytes.try_reserve(portion).map_err(|error| {
                Failure::retryable(format!("{}: no memory for {count} bytes: {error}", self.name))
            })?;
            let start = bytes.len();
            bytes.resize(start + portion, 0);
            self.read_exact(bytes.get_mut(start..).unwrap_or_default())?;
        }
        Ok(bytes)
    }

    /// Skips `count` bytes, or those that are left; returns their number.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub(super) fn skip(&mut self, count: u64) -> Result<u64> {
        if let Bytes::Plain { file, size } = &mut self.bytes {
            let end = self.position.saturating_add(count).min(*size);
            let skipped = end - self.position;
            let moved = file.seek(SeekFrom::Start(end));
            self.position = end;
            return moved.map(|_| skipped).map_err(|error| io_failure(&self.name, &error));
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(PORTION, 0);
        let mut skipped = 0;
        while skipped < count {
            let portion = (count - skipped).min(PORTION as u64) as usize;
            let read = self.read(scratch.get_mut(..portion).unwrap_or_default())?;
            skipped += read as u64;
            if read < portion {
                break;
            }
        }
        self.scratch = scratch;
        Ok(skipped)
    }

    /// Reads a gzipped file to its end, where the checksums of its members stand. Does nothing
    /// for other files.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub(super) fn finish(&mut self) -> Result<()> {
        if self.size().is_none() { self.skip(u64::MAX).map(drop) } else { Ok(()) }
    }

    /// The failure of a file that ends before its contents do.
    pub(super) fn truncated(&self) -> Failure {
        Failure::permanent(format!(
            "{}: truncated: it ends after {} bytes, within its data; fetch it again",
            self.name, self.position
        ))
    }

    fn failure(&self, error: &io::Error) -> Failure {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match error.kind() {
            InvalidData | InvalidInput | UnexpectedEof => Failure::permanent(format!(
                "{}: cannot be unpacked: truncated or damaged; fetch it again ({error})",
                self.name
            )),
            _ => io_failure(&self.name, error),
        }
    }
}

enum Kind {
    Fits,
    Gzip,
    Other(String),
}

fn kind_of(start: &[u8]) -> Kind {
    if start.starts_with(b"SIMPLE") {
        return Kind::Fits;
    }
    if start.starts_with(b"\x1f\x8b") {
        return Kind::Gzip;
    }
    let packed = PACKED.iter().find(|(magic, ..)| start.starts_with(magic));
    Kind::Other(match packed {
        Some((_, format, program)) => {
            format!("is compressed by {format}, which is not read here: unpack it with {program}")
        }
        None => format!("starts with \"{}\", not with SIMPLE", start.escape_ascii()),
    })
}

/// The members of a gzip file one after the other (RFC 1952, 2.2). As gunzip does, it ignores
/// the zeros that tapes leave behind the last one, and anything else that is no member.
struct Members {
    current: Option<GzDecoder<BufReader<File>>>,
}

impl Members {
    fn new(file: File) -> Self {
        Self { current: Some(GzDecoder::new(BufReader::with_capacity(64 << 10, file))) }
    }
}

impl Read for Members {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.current {
            let count = decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let mut rest = match self.current.take() {
                Some(decoder) => decoder.into_inner(),
                None => break,
            };
            if next_byte(&mut rest)? == Some(0x1f) {
                self.current = Some(GzDecoder::new(rest));
            }
        }
        Ok(0)
    }
}

/// Returns the next byte that is not zero, without consuming it.
fn next_byte(reader: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(None);
        }
        let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
        let found = buffer.get(zeros).copied();
        reader.consume(zeros);
        if found.is_some() {
            return Ok(found);
        }
    }
}

fn io_failure(name: &str, error: &io::Error) -> Failure {
    let message = format!("{name} cannot be read: {error}");
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Failure::permanent(message),
        _ => Failure::retryable(message),
    }
}
