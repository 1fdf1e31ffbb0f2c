//! Variable-length integers as in QUIC (RFC 9000 §16): one to eight bytes, big-endian, the two
//! highest bits of the first byte say how many.

use bytes::BufMut;

/// Largest value that fits: 2^62 − 1.
pub const MAX: u64 = (1 << 62) - 1;

/// Appends `value`, in as few bytes as it fits. Values above [`MAX`] are a bug of the caller.
pub fn encode(value: u64, out: &mut impl BufMut) {
    debug_assert!(value <= MAX, "a varint holds 62 bits");
    match value {
        0..0x40 => out.put_u8(value as u8),
        0x40..0x4000 => out.put_u16(0x4000 | value as u16),
        0x4000..0x4000_0000 => out.put_u32(0x8000_0000 | value as u32),
        _ => out.put_u64(0xc000_0000_0000_0000 | value),
    }
}

/// Reads the varint at the front of `bytes`: its value and its length, or `None` while bytes are
/// missing. Longer forms than needed are accepted, as RFC 9000 allows.
pub fn decode(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1usize << (first >> 6);
    let mut value = u64::from(first & 0x3f);
    for byte in bytes.get(1..length)? {
        value = value << 8 | u64::from(*byte);
    }
    Some((value, length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_the_rfc_hold() {
        let examples: [(&[u8], u64); 4] = [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ];
        for (bytes, value) in examples {
            assert_eq!(decode(bytes), Some((value, bytes.len())));
            let mut out = Vec::new();
            encode(value, &mut out);
            assert_eq!(out, bytes);
        }
        assert_eq!(decode(&[0x40, 0x25]), Some((37, 2)));
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[0xc0, 0, 0]), None);
    }

    proptest! {
        #[test]
        fn every_value_survives_the_round_trip(value in 0..=MAX) {
            let mut out = Vec::new();
            encode(value, &mut out);
            prop_assert_eq!(decode(&out), Some((value, out.len())));
        }
    }
}
