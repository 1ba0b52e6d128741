/* SPDX-License-Identifier: MIT
 *
 * self_program.c - a program that runs on mod-alloc and reports on itself: names and figures of its own call sites
 * in every form, and not one allocation of the report library among them. Run with MOD_ALLOC_SAMPLE=1.
 */
#include "mod_alloc_report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(claim)                                                                                         \
    do {                                                                                                     \
        if (!(claim)) {                                                                                      \
            fprintf(stderr, "self_program: line %d: not so: %s\n", __LINE__, #claim);                        \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

static void *kept[100];

__attribute__((noinline)) static void hundred_blocks_of_5000(void) {
    for (int i = 0; i < 100; i++)
        kept[i] = malloc(5000);
}

typedef struct finding {
    int calls, in_library;
    mod_alloc_call_site site;
} finding;

static int find(const mod_alloc_symbolicated_site *site, void *context) {
    finding *const found = context;
    found->calls++;
    for (size_t i = 0; i < site->frame_count; i++) {
        const mod_alloc_frame *const frame = &site->frames[i];
        if (frame->module != NULL && strstr(frame->module, "libmod_alloc_report") != NULL && i == 0)
            found->in_library++;
        if (strcmp(frame->function, "hundred_blocks_of_5000") == 0) {
            found->site = site->site;
            CHECK(frame->file != NULL && strstr(frame->file, "self_program.c") != NULL);
            CHECK(frame->line > 0);
        }
    }
    return 0;
}

static void check_found(const finding *found) {
    CHECK(found->site.alloc_count == 100);
    CHECK(found->site.alloc_requested_bytes == 100 * 5000);
    CHECK(found->site.alloc_bytes >= 100 * 5000);
    CHECK(found->site.live_count == 50);
    CHECK(found->in_library == 0);
}

static void check_unchanged(const mod_alloc_stats *before) {
    mod_alloc_stats now;
    mod_alloc_snapshot(&now);
    CHECK(now.alloc_count == before->alloc_count);
    CHECK(now.free_count == before->free_count);
    CHECK(now.total_bytes == before->total_bytes);
    CHECK(now.current_bytes == before->current_bytes);
    CHECK(now.peak_bytes == before->peak_bytes);
    CHECK(now.requested_bytes == before->requested_bytes);
}

int main(int count, char **arguments) {
    CHECK(count == 2);
    CHECK(mod_alloc_is_active());
    hundred_blocks_of_5000();
    for (int i = 0; i < 50; i++)
        free(kept[i]);
    setvbuf(stdout, NULL, _IONBF, 0); /* so that stdio takes no buffer meanwhile */
    mod_alloc_stats before;
    mod_alloc_snapshot(&before);

    mod_alloc_report_error error = {.text = ""};
    finding found = {.calls = 0};
    const long visited = mod_alloc_symbolicated_report(find, &found, &error);
    if (visited < 0)
        fprintf(stderr, "%s\n", error.text);
    CHECK(visited > 0 && visited == found.calls);
    check_found(&found);
    check_unchanged(&before);

    size_t sites;
    mod_alloc_symbolicated_site *const array = mod_alloc_symbolicated_report_get(&sites, &error);
    CHECK(array != NULL && sites == (size_t)visited);
    finding again = {.calls = 0};
    for (size_t i = 0; i < sites; i++)
        find(&array[i], &again);
    check_found(&again);
    mod_alloc_symbolicated_report_free(array);
    check_unchanged(&before);

    CHECK(mod_alloc_write_dhat_json(arguments[1]) == 0);
    char *const dhat = mod_alloc_dhat_json_string();
    CHECK(dhat != NULL && strstr(dhat, "hundred_blocks_of_5000 (") != NULL);
    mod_alloc_report_string_free(dhat);
    size_t length;
    char *const text = mod_alloc_report_string("text", &length, &error);
    CHECK(text != NULL && strlen(text) == length && strstr(text, "hundred_blocks_of_5000") != NULL);
    mod_alloc_report_string_free(text);
    CHECK(mod_alloc_report_string("papyrus", NULL, &error) == NULL && strstr(error.text, "papyrus") != NULL);
    check_unchanged(&before);

    mod_alloc_profile *const profile = mod_alloc_profile_open_self(&error);
    CHECK(profile != NULL);
    mod_alloc_stats stats;
    mod_alloc_profile_stats(profile, &stats);
    CHECK(stats.alloc_count == before.alloc_count);
    CHECK(stats.total_bytes == before.total_bytes);
    CHECK(stats.current_bytes == before.current_bytes);
    CHECK(stats.peak_bytes == before.peak_bytes);
    char path[4096];
    snprintf(path, sizeof path, "%s.prof", arguments[1]);
    CHECK(mod_alloc_profile_write(profile, "profile", NULL, path, &error) == 0);
    mod_alloc_profile *const saved = mod_alloc_profile_open(path, &error);
    CHECK(saved != NULL);
    mod_alloc_stats again_stats;
    mod_alloc_profile_stats(saved, &again_stats);
    CHECK(again_stats.total_bytes == stats.total_bytes && again_stats.live_count == stats.live_count);
    mod_alloc_profile_close(saved);
    mod_alloc_profile_close(profile);
    check_unchanged(&before);
    return 0;
}
