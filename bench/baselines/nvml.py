"""NVML's clocks and throttle reasons through ctypes, since pynvml is not part of PyTorch.

Reads only; never changes a setting. Absent library, device or reading: None, never a guess. Constants: nvml.h.
"""
import ctypes

# nvmlClocksEventReasons bits, named as in the project's own records.
_REASONS = (
    (0x001, "gpu_idle"), (0x002, "applications_clocks_setting"), (0x004, "sw_power_cap"), (0x008, "hw_slowdown"),
    (0x010, "sync_boost"), (0x020, "sw_thermal_slowdown"), (0x040, "hw_thermal_slowdown"),
    (0x080, "hw_power_brake_slowdown"), (0x100, "display_clock_setting"),
)
_SM_CLOCK, _MEMORY_CLOCK = 1, 2


class Nvml:
    """`uuid` as torch reports it (without "GPU-"), so that CUDA_VISIBLE_DEVICES cannot mislead."""

    def __init__(self, uuid):
        self._library = self._device = None
        try:
            library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return
        device = ctypes.c_void_p()
        name = f"GPU-{uuid}".encode()
        if library.nvmlInit_v2() == 0 and library.nvmlDeviceGetHandleByUUID(name, ctypes.byref(device)) == 0:
            self._library, self._device = library, device

    def _read(self, function, value, *arguments):
        entry = getattr(self._library, function, None)
        if entry is None or entry(self._device, *arguments, ctypes.byref(value)) != 0:
            return None
        return value.value

    def driver_version(self):
        if self._library is None:
            return None
        text = ctypes.create_string_buffer(96)
        return text.value.decode() if self._library.nvmlSystemGetDriverVersion(text, 96) == 0 else None

    def state(self):
        """One reading with the field names of the records, or None without NVML."""
        if self._library is None:
            return None
        milliwatts = self._read("nvmlDeviceGetPowerUsage", ctypes.c_uint())
        mask = self._read("nvmlDeviceGetCurrentClocksEventReasons", ctypes.c_ulonglong())
        if mask is None:
            mask = self._read("nvmlDeviceGetCurrentClocksThrottleReasons", ctypes.c_ulonglong())
        return {
            "smClockMHz": self._read("nvmlDeviceGetClockInfo", ctypes.c_uint(), _SM_CLOCK),
            "memoryClockMHz": self._read("nvmlDeviceGetClockInfo", ctypes.c_uint(), _MEMORY_CLOCK),
            "maxSmClockMHz": self._read("nvmlDeviceGetMaxClockInfo", ctypes.c_uint(), _SM_CLOCK),
            "temperatureC": self._read("nvmlDeviceGetTemperature", ctypes.c_uint(), 0),
            "powerW": None if milliwatts is None else milliwatts / 1000,
            "throttleReasons": None if mask is None else [name for bit, name in _REASONS if mask & bit],
        }
