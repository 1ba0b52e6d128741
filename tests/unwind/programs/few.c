/* SPDX-License-Identifier: MIT
 *
 * few.c - what a compiler is given that a debugger stops at each allocation. */
struct point {
    int x;
    double y;
};

static int weigh(const struct point *p, int n) {
    int sum = 0;
    for (int i = 0; i < n; i++) {
        sum += p[i].x * i;
    }
    return sum;
}

int few(struct point *p, int n);
int few(struct point *p, int n) {
    p->y = n * 0.5;
    return n > 3 ? weigh(p, n) : 0;
}
