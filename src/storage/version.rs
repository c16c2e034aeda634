//! The versions of the format that this program reads, as a header or a cursor slot names them.

use super::layout::{VERSION, get_u16, put_u16};

/// A version of the format. A queue may have segments of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Read, and written to where a segment of it is in use still.
    One = 1,
    /// Of every new segment.
    #[default]
    Two = 2,
}

impl Version {
    /// The version whose reader `number` asks for, or `None` if this program has none.
    pub fn of_reader(number: u16) -> Option<Version> {
        match number {
            1 => Some(Version::One),
            2 => Some(Version::Two),
            _ => None,
        }
    }

    /// Reads the two halves at `offset`: the oldest reader that suffices, and the writer. The error
    /// is the former, which this program is not. (Version 1 is one number of four bytes, so its
    /// writer reads as 0.)
    pub fn read(bytes: &[u8], offset: usize) -> Result<Version, u16> {
        let reader = get_u16(bytes, offset);
        Version::of_reader(reader).ok_or(reader)
    }

    /// Writes the two halves at `offset`.
    pub fn write(self, bytes: &mut [u8], offset: usize) {
        put_u16(bytes, offset, self as u16);
        put_u16(bytes, offset + 2, if self == Version::One { 0 } else { VERSION });
    }
}
