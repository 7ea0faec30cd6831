package io.instanttensor.slab;

/// The life of a slab; it only ever goes forward.
enum SlabState {
    /// It has no memory yet.
    PLANNED,
    /// Readers are copying into it.
    FILLING,
    /// All its copies are queued.
    FILLED,
    /// Its views belong to the caller.
    HANDED_OUT,
    /// Nobody views it any more.
    RELEASED
}
