/*
 * A libnvidia-ml.so.1 with two GPUs, for tests/process/test_control.py. Its second GPU knows little
 * of itself, as old cards do; with NVML_FAKE_IDLE its memory is all but free. NVML_FAKE_INIT is what
 * nvmlInit returns, NVML_FAKE_HANG_MS how long each count takes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int nvmlInit_v2(void);
int nvmlDeviceGetCount_v2(unsigned *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
int nvmlDeviceGetName(void *device, char *name, unsigned size);
int nvmlDeviceGetUUID(void *device, char *uuid, unsigned size);
int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *total_free_used);
int nvmlDeviceGetUtilizationRates(void *device, unsigned *gpu_memory);
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius);
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts);
const char *nvmlErrorString(int error);

#define NOT_SUPPORTED 3

static int gpus[2];
static unsigned asked;

static long number(const char *name)
{
	const char *text = getenv(name);
	return text ? atol(text) : 0;
}

static int second(const void *device)
{
	return device == &gpus[1];
}

int nvmlInit_v2(void)
{
	return (int)number("NVML_FAKE_INIT");
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
	long ms = number("NVML_FAKE_HANG_MS");
	nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
	asked++;
	*count = 2;
	return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device)
{
	*device = &gpus[index];
	return 0;
}

int nvmlDeviceGetName(void *device, char *name, unsigned size)
{
	snprintf(name, size, second(device) ? "Old \"Card\"" : "NVIDIA H100");
	return 0;
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned size)
{
	snprintf(uuid, size, second(device) ? "GPU-b" : "GPU-a");
	return 0;
}

int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *total_free_used)
{
	total_free_used[0] = second(device) ? 4ull << 30 : 80ull << 30;
	total_free_used[2] = !second(device)		? 60ull << 30
			     : number("NVML_FAKE_IDLE") ? 1ull << 26
							: 1ull << 30;
	total_free_used[1] = total_free_used[0] - total_free_used[2];
	return 0;
}

int nvmlDeviceGetUtilizationRates(void *device, unsigned *gpu_memory)
{
	gpu_memory[0] = 87;
	gpu_memory[1] = 12;
	return second(device) ? NOT_SUPPORTED : 0;
}

/* Tells, too, how often it was asked at all. */
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius)
{
	*celsius = 40 + asked;
	return sensor || second(device) ? NOT_SUPPORTED : 0;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts)
{
	*milliwatts = 350500;
	return second(device) ? NOT_SUPPORTED : 0;
}

const char *nvmlErrorString(int error)
{
	return error == 9 ? "Driver Not Loaded" : "Error";
}
