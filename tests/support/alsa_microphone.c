/* A capture device for libasound without a kernel's: an ioplug with the clock of a sound card.
 *
 * pcm.NAME { type limpetmic  folder "/path"  rate 16000  channels 1  format S16_LE }
 * It gives the raw samples of FOLDER/sound again and again, at its rate. If nobody reads, its buffer overruns.
 * While FOLDER/unplugged exists, it is gone. While FOLDER/busy exists, another program has it.
 * While FOLDER/stumbles exists, it overruns five times a second.
 */
#include <alsa/asoundlib.h>
#include <alsa/pcm_external.h>
#include <fcntl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

struct microphone {
    snd_pcm_ioplug_t io;
    char folder[256];
    char *sound;
    size_t frames;
    snd_pcm_uframes_t taken; /* frames that were read or dropped since the start */
    int64_t begin;
    int clock;
};

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int is_there(struct microphone *mic, const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", mic->folder, name);
    return access(path, F_OK) == 0;
}

static snd_pcm_uframes_t produced(struct microphone *mic)
{
    return (snd_pcm_uframes_t)((now() - mic->begin) * (int64_t)mic->io.rate / 1000000000LL);
}

static int start(snd_pcm_ioplug_t *io)
{
    struct microphone *mic = io->private_data;
    int64_t period = io->period_size * 1000000000LL / io->rate;
    struct itimerspec every = {{period / 1000000000, period % 1000000000}, {period / 1000000000, period % 1000000000}};
    mic->begin = now();
    mic->taken = 0;
    return timerfd_settime(mic->clock, 0, &every, NULL);
}

static int stop(snd_pcm_ioplug_t *io)
{
    struct microphone *mic = io->private_data;
    struct itimerspec never = {{0, 0}, {0, 0}};
    return timerfd_settime(mic->clock, 0, &never, NULL);
}

static snd_pcm_sframes_t pointer(snd_pcm_ioplug_t *io)
{
    struct microphone *mic = io->private_data;
    snd_pcm_uframes_t all = produced(mic);
    if (is_there(mic, "unplugged"))
        return -ENODEV;
    if (all - mic->taken > io->buffer_size || (all > io->rate / 5 && is_there(mic, "stumbles")))
        return -EPIPE;
    return all % io->buffer_size;
}

static snd_pcm_sframes_t transfer(snd_pcm_ioplug_t *io, const snd_pcm_channel_area_t *areas, snd_pcm_uframes_t offset,
                                  snd_pcm_uframes_t size)
{
    struct microphone *mic = io->private_data;
    size_t width = areas->step / 8, at = mic->taken % mic->frames;
    char *to = (char *)areas->addr + areas->first / 8 + offset * width;
    if (is_there(mic, "unplugged"))
        return -ENODEV;
    for (snd_pcm_uframes_t n = 0; n < size; n++, to += width) {
        memcpy(to, mic->sound + at * width, width);
        at = at + 1 == mic->frames ? 0 : at + 1;
    }
    mic->taken += size;
    return size;
}

static int poll_revents(snd_pcm_ioplug_t *io, struct pollfd *pfd, unsigned int nfds, unsigned short *revents)
{
    struct microphone *mic = io->private_data;
    uint64_t times;
    ssize_t got = 0;
    (void)nfds;
    if ((pfd->revents & POLLIN) && produced(mic) - mic->taken < io->period_size)
        got = read(mic->clock, &times, sizeof times);
    *revents = got > 0 && produced(mic) - mic->taken < io->period_size ? 0 : pfd->revents;
    if (is_there(mic, "unplugged")) {
        snd_pcm_ioplug_set_state(io, SND_PCM_STATE_DISCONNECTED); /* as the kernel does */
        *revents = POLLERR;
    }
    return 0;
}

static int done(snd_pcm_ioplug_t *io)
{
    struct microphone *mic = io->private_data;
    close(mic->clock);
    free(mic->sound);
    free(mic);
    return 0;
}

static const snd_pcm_ioplug_callback_t callbacks = {
    .start = start,
    .stop = stop,
    .pointer = pointer,
    .transfer = transfer,
    .poll_revents = poll_revents,
    .close = done,
};

static int load(struct microphone *mic, size_t width)
{
    char path[300];
    off_t size;
    int file;
    snprintf(path, sizeof path, "%s/sound", mic->folder);
    file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -errno;
    size = lseek(file, 0, SEEK_END);
    mic->frames = size / width;
    mic->sound = malloc(size);
    if (!mic->frames || pread(file, mic->sound, size, 0) != size) {
        close(file);
        return -EINVAL;
    }
    close(file);
    return 0;
}

SND_PCM_PLUGIN_DEFINE_FUNC(limpetmic)
{
    snd_config_iterator_t i, next;
    const char *folder = NULL, *layout = NULL;
    long rate = 0, channels = 0;
    unsigned int access[] = {SND_PCM_ACCESS_RW_INTERLEAVED, SND_PCM_ACCESS_MMAP_INTERLEAVED}, format;
    struct microphone *mic;
    int error;
    (void)root;

    snd_config_for_each(i, next, conf) {
        snd_config_t *entry = snd_config_iterator_entry(i);
        const char *id;
        if (snd_config_get_id(entry, &id) < 0)
            continue;
        if (!strcmp(id, "folder"))
            snd_config_get_string(entry, &folder);
        else if (!strcmp(id, "format"))
            snd_config_get_string(entry, &layout);
        else if (!strcmp(id, "rate"))
            snd_config_get_integer(entry, &rate);
        else if (!strcmp(id, "channels"))
            snd_config_get_integer(entry, &channels);
    }
    if (!folder || !layout || !rate || !channels)
        return -EINVAL;
    mic = calloc(1, sizeof *mic);
    if (!mic)
        return -ENOMEM;
    snprintf(mic->folder, sizeof mic->folder, "%s", folder);
    if (is_there(mic, "unplugged") || is_there(mic, "busy")) {
        error = is_there(mic, "busy") ? -EBUSY : -ENODEV;
        free(mic);
        return error;
    }
    format = snd_pcm_format_value(layout);
    error = load(mic, channels * snd_pcm_format_physical_width(format) / 8);
    if (error < 0) {
        free(mic);
        return error;
    }
    mic->clock = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    mic->io.version = SND_PCM_IOPLUG_VERSION;
    mic->io.name = "A microphone for tests";
    mic->io.callback = &callbacks;
    mic->io.private_data = mic;
    mic->io.poll_fd = mic->clock;
    mic->io.poll_events = POLLIN;
    mic->io.mmap_rw = 0;
    error = snd_pcm_ioplug_create(&mic->io, "limpetmic", stream, mode);
    if (error < 0) {
        close(mic->clock);
        free(mic->sound);
        free(mic);
        return error;
    }
    snd_pcm_ioplug_set_param_list(&mic->io, SND_PCM_IOPLUG_HW_ACCESS, 2, access);
    snd_pcm_ioplug_set_param_list(&mic->io, SND_PCM_IOPLUG_HW_FORMAT, 1, &format);
    snd_pcm_ioplug_set_param_minmax(&mic->io, SND_PCM_IOPLUG_HW_RATE, rate, rate);
    snd_pcm_ioplug_set_param_minmax(&mic->io, SND_PCM_IOPLUG_HW_CHANNELS, channels, channels);
    snd_pcm_ioplug_set_param_minmax(&mic->io, SND_PCM_IOPLUG_HW_PERIOD_BYTES, 64, 1 << 20);
    snd_pcm_ioplug_set_param_minmax(&mic->io, SND_PCM_IOPLUG_HW_BUFFER_BYTES, 128, 1 << 22);
    snd_pcm_ioplug_set_param_minmax(&mic->io, SND_PCM_IOPLUG_HW_PERIODS, 2, 1024);
    *pcmp = mic->io.pcm;
    return 0;
}

SND_PCM_PLUGIN_SYMBOL(limpetmic);
