//! The words of a command line.

/// The words of a line that ends in LF or CRLF; what is left of it is field 0.
#[derive(Clone, Copy)]
pub(super) struct Words<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let spaces = self.0.iter().take_while(|&&byte| byte == b' ').count();
        let word_on = &self.0[spaces..];
        if matches!(word_on, b"" | b"\n" | b"\r\n") {
            return None;
        }
        let length = word_on.iter().take_while(|&&byte| !matches!(byte, b' ' | b'\n')).count();
        let (word, rest) = word_on.split_at(length);
        self.0 = rest;
        match (word, rest) {
            // The CR belongs to the end of the line.
            ([word @ .., b'\r'], b"\n") => Some(word),
            _ => Some(word),
        }
    }
}
