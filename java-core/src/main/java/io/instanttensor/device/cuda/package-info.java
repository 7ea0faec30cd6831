/// The device interfaces over NVIDIA's driver: all of JCuda that the engine touches is in here.
///
/// Works in each device's primary context, which is torch's too. Only [RawPointers] sees raw addresses
/// behind JCuda's objects, only [CuResult] reads result codes, only [CudaLibrary] loads anything.
package io.instanttensor.device.cuda;
