//! Output files that appear complete or not at all.

use super::EvidenceFault;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// A file under way. It has no name until [`OutputFile::finish`], so whatever ends the process before leaves nothing.
pub(super) struct OutputFile {
    path: PathBuf,
    is_replaced: bool,
    file: BufWriter<File>,
}

impl OutputFile {
    /// Begins a file that its owner alone can read. Unless `is_replaced`, one that is there already is a fault.
    pub(super) fn create(path: &Path, is_replaced: bool) -> Result<Self, EvidenceFault> {
        if !is_replaced && path.symlink_metadata().is_ok() {
            return Err(fault(path)("is there already; --force replaces it"));
        }
        OutputFile::create_in(path, folder(path), is_replaced)
    }

    /// Begins a new file whose folder may not be there yet; `beside` is one of the same file system.
    pub(super) fn create_for(path: &Path, beside: &Path) -> Result<Self, EvidenceFault> {
        OutputFile::create_in(path, beside, false)
    }

    fn create_in(path: &Path, folder: &Path, is_replaced: bool) -> Result<Self, EvidenceFault> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = open(folder, flags, Mode::RUSR | Mode::WUSR);
        let file = File::from(file.map_err(|error| fault(path)(&io::Error::from(error).to_string()))?);
        Ok(OutputFile { path: path.to_owned(), is_replaced, file: BufWriter::new(file) })
    }

    /// Puts the file in its place, on the disk.
    pub(super) fn finish(self) -> Result<(), EvidenceFault> {
        let OutputFile { path, is_replaced, file } = self;
        let finish = || {
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            let own = format!("/proc/self/fd/{}", file.as_raw_fd());
            if !is_replaced {
                return Ok(linkat(CWD, own, CWD, &path, AtFlags::SYMLINK_FOLLOW)?);
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let beside = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
            linkat(CWD, own, CWD, &beside, AtFlags::SYMLINK_FOLLOW)?;
            std::fs::rename(&beside, &path).inspect_err(|_| drop(std::fs::remove_file(&beside)))
        };
        finish().map_err(|error: io::Error| fault(&path)(&error.to_string()))
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn fault(path: &Path) -> impl Fn(&str) -> EvidenceFault {
    move |why| EvidenceFault::File { path: path.to_owned(), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_no_name_until_it_is_whole_and_never_replaces_another_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let names = || std::fs::read_dir(folder.path()).unwrap().count();
        let mut file = OutputFile::create(&path, false).unwrap();
        file.write_all(b"half").unwrap();
        assert_eq!(names(), 0);
        drop(file);
        assert_eq!(names(), 0);
        let mut file = OutputFile::create(&path, false).unwrap();
        file.write_all(b"whole").unwrap();
        file.finish().unwrap();
        assert_eq!((std::fs::read(&path).unwrap().as_slice(), names()), (&b"whole"[..], 1));
        assert!(OutputFile::create(&path, false).is_err());
        let mut file = OutputFile::create(&path, true).unwrap();
        file.write_all(b"new").unwrap();
        file.finish().unwrap();
        assert_eq!((std::fs::read(&path).unwrap().as_slice(), names()), (&b"new"[..], 1));
    }
}
