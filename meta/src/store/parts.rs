//! Values in parts. sled keeps pages above 128 KiB in files of their own, which it never makes
//! durable, and some twenty values share a page. So what is longer than a part is cut; each head
//! knows how many parts belong to it.

use super::StoreError;

/// Longest part, bytes: fifty of them, with their keys, fit a page.
const PART_BYTES_MAX: usize = 2 << 10;
/// Before the keys of heads: these are the store's keys.
const HEAD: u8 = 0;
/// Before the keys of further parts.
const PART: u8 = 1;
/// Bytes of a head before its share of the value: the number of parts, the length of the whole.
const LEAD: usize = 6;

/// Where a value's head is.
pub fn head_key(key: &[u8]) -> Vec<u8> {
    [&[HEAD], key].concat()
}

/// The store's key of a head.
pub fn key_of(head_key: &[u8]) -> Vec<u8> {
    head_key.get(1..).unwrap_or_default().to_vec()
}

/// Where further part `n`, from 1, is.
pub fn part_key(key: &[u8], n: u16) -> Vec<u8> {
    [&[PART], key, &n.to_be_bytes()[..]].concat()
}

/// A value's head and its further parts.
///
/// # Errors
/// When the value is too long even in parts.
pub fn cut(value: &[u8]) -> Result<(Vec<u8>, Vec<&[u8]>), StoreError> {
    let mut pieces = value.chunks(PART_BYTES_MAX);
    let first = pieces.next().unwrap_or_default();
    let rest: Vec<&[u8]> = pieces.collect();
    let long = || StoreError::Io(format!("a value of {} bytes is too long", value.len()));
    let count = u16::try_from(rest.len()).map_err(|_| long())?;
    let len = u32::try_from(value.len()).map_err(|_| long())?;
    let head = [&count.to_be_bytes()[..], &len.to_be_bytes(), first].concat();
    Ok((head, rest))
}

/// How many further parts a head says there are.
///
/// # Errors
/// When it is no head.
pub fn count(head: &[u8]) -> Result<u16, StoreError> {
    match head {
        [a, b, ..] if head.len() >= LEAD => Ok(u16::from_be_bytes([*a, *b])),
        _ => Err(StoreError::Damaged(format!("a value's head has {} bytes", head.len()))),
    }
}

/// The value again; `part` reads a further part.
///
/// # Errors
/// When a part is missing or the length is not what was written.
pub fn join(
    head: &[u8],
    mut part: impl FnMut(u16) -> Result<Option<Vec<u8>>, StoreError>,
) -> Result<Vec<u8>, StoreError> {
    let count = count(head)?;
    let len = u32::from_be_bytes([head[2], head[3], head[4], head[5]]) as usize;
    let mut value = head[LEAD..].to_vec();
    for n in 1..=count {
        let piece = part(n)?.ok_or_else(|| {
            StoreError::Damaged(format!("part {n} of {count} of a value is missing"))
        })?;
        value.extend_from_slice(&piece);
    }
    if value.len() != len {
        let found = value.len();
        return Err(StoreError::Damaged(format!("a value has {found} bytes, {len} written")));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_value_comes_back_and_a_lost_part_is_noticed(
            len in prop_oneof![0..50usize, 2040..2056usize, 0..100_000usize],
            lost: u16,
        ) {
            let value: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            let (head, rest) = cut(&value).unwrap();
            let get = |n: u16| rest.get(usize::from(n) - 1).map(|p| p.to_vec());
            prop_assert_eq!(&join(&head, |n| Ok(get(n))).unwrap(), &value);
            if !rest.is_empty() {
                let lost = lost % rest.len() as u16 + 1;
                prop_assert!(join(&head, |n| Ok(get(n).filter(|_| n != lost))).is_err());
            }
        }

        #[test]
        fn any_head_is_read_without_panic(head in proptest::collection::vec(any::<u8>(), 0..20)) {
            let _ = join(&head, |_| Ok(None));
        }
    }
}
