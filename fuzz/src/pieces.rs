//! How a channel may cut a stream of bytes.

/// The bytes as they come in three ways: at once, one by one, and cut where
/// they say themselves, so that an input needs nothing but the bytes.
pub(crate) fn cuttings(bytes: &[u8]) -> [Vec<&[u8]>; 3] {
    [vec![bytes], bytes.chunks(1).collect(), uneven(bytes)]
}

/// Each piece is as long as its first byte says, up to 64 bytes.
fn uneven(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some(first) = rest.first() {
        let (piece, after) = rest.split_at(rest.len().min(1 + usize::from(first % 64)));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// What `hear` makes of the bytes, which has to be the same for each cutting.
pub(crate) fn however_cut<T: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    hear: impl Fn(&[&[u8]]) -> T,
) -> T {
    let [whole, others @ ..] = cuttings(bytes).map(|pieces| hear(&pieces));
    for other in others {
        assert_eq!(other, whole, "what is heard depends on how the bytes were cut");
    }
    whole
}
