package io.instanttensor.plan;

/// Where a wanted range lies in its slab.
public record Placement(Wanted wanted, long slabOffset) {}
