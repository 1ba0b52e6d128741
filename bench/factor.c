/* SPDX-License-Identifier: MIT
 *
 * factor.c NUMBER... - factors numbers of up to 40 digits, with each intermediate number on the heap.
 *
 * A program as they are written in languages where numbers are objects: every sum, product and rest is a
 * block of its own, 16 to 64 bytes, that lives for a few operations. About half of its time is malloc and
 * free, so that it shows what profiling costs at its worst in a program that does something.
 *
 * The method is Pollard's rho with Brent's cycle search (R. P. Brent, "An improved Monte Carlo factorization
 * algorithm", BIT 20, 1980). It prints the factors, smallest first, so that a wrong malloc shows.
 */
#include <inttypes.h>
#include <string.h>

#include "loop.h"

/* A natural number, never changed once made: digits to base 2^32, lowest first, none leading 0. */
typedef struct natural {
    size_t length;
    uint32_t digit[];
} natural;

static natural *make(size_t length) {
    natural *n = calloc(1, sizeof *n + length * sizeof *n->digit);
    if (!n) {
        abort();
    }
    n->length = length;
    return n;
}

static natural *trim(natural *n) {
    while (n->length > 0 && n->digit[n->length - 1] == 0) {
        n->length--;
    }
    return n;
}

static natural *small(uint32_t value) {
    natural *n = make(1);
    n->digit[0] = value;
    return trim(n);
}

static natural *copy(const natural *a) {
    natural *n = make(a->length);
    memcpy(n->digit, a->digit, a->length * sizeof *a->digit);
    return n;
}

static int compare(const natural *a, const natural *b) {
    if (a->length != b->length) {
        return a->length < b->length ? -1 : 1;
    }
    for (size_t i = a->length; i-- > 0;) {
        if (a->digit[i] != b->digit[i]) {
            return a->digit[i] < b->digit[i] ? -1 : 1;
        }
    }
    return 0;
}

static natural *add(const natural *a, const natural *b) {
    if (a->length < b->length) {
        return add(b, a);
    }
    natural *sum = make(a->length + 1);
    uint64_t carry = 0;
    for (size_t i = 0; i < a->length; i++) {
        carry += (uint64_t)a->digit[i] + (i < b->length ? b->digit[i] : 0);
        sum->digit[i] = (uint32_t)carry;
        carry >>= 32;
    }
    sum->digit[a->length] = (uint32_t)carry;
    return trim(sum);
}

/* |a - b| */
static natural *distance(const natural *a, const natural *b) {
    if (compare(a, b) < 0) {
        return distance(b, a);
    }
    natural *rest = make(a->length);
    int64_t borrow = 0;
    for (size_t i = 0; i < a->length; i++) {
        borrow += (int64_t)a->digit[i] - (i < b->length ? b->digit[i] : 0);
        rest->digit[i] = (uint32_t)borrow;
        borrow >>= 32;
    }
    return trim(rest);
}

static natural *multiply(const natural *a, const natural *b) {
    natural *product = make(a->length + b->length);
    for (size_t i = 0; i < a->length; i++) {
        uint64_t carry = 0;
        for (size_t k = 0; k < b->length; k++) {
            carry += (uint64_t)a->digit[i] * b->digit[k] + product->digit[i + k];
            product->digit[i + k] = (uint32_t)carry;
            carry >>= 32;
        }
        product->digit[i + b->length] = (uint32_t)carry;
    }
    return trim(product);
}

/* rest -= digit * b << 32 * at; true where that went below 0 */
static int take_off(natural *rest, const natural *b, size_t at, uint64_t digit) {
    uint64_t carry = 0;
    int64_t borrow = 0;
    for (size_t i = 0; i < b->length; i++) {
        carry += digit * b->digit[i];
        borrow += (int64_t)rest->digit[at + i] - (uint32_t)carry;
        rest->digit[at + i] = (uint32_t)borrow;
        borrow >>= 32;
        carry >>= 32;
    }
    borrow += (int64_t)rest->digit[at + b->length] - (int64_t)carry;
    rest->digit[at + b->length] = (uint32_t)borrow;
    return borrow < 0;
}

static void put_back(natural *rest, const natural *b, size_t at) {
    uint64_t carry = 0;
    for (size_t i = 0; i < b->length; i++) {
        carry += (uint64_t)rest->digit[at + i] + b->digit[i];
        rest->digit[at + i] = (uint32_t)carry;
        carry >>= 32;
    }
    rest->digit[at + b->length] += (uint32_t)carry;
}

static natural *shifted(const natural *a, unsigned bits) {
    natural *n = make(a->length + 1);
    uint64_t carry = 0;
    for (size_t i = 0; i < a->length; i++) {
        carry |= (uint64_t)a->digit[i] << bits;
        n->digit[i] = (uint32_t)carry;
        carry >>= 32;
    }
    n->digit[a->length] = (uint32_t)carry;
    return n;
}

/* a mod b, and a / b where `quotient` is wanted: Knuth's algorithm D (The Art of Computer Programming 2,
 * 4.3.1). b is not 0. */
static natural *divide(const natural *a, const natural *b, natural **quotient) {
    const unsigned bits = (unsigned)__builtin_clz(b->digit[b->length - 1]);
    natural *divisor = trim(shifted(b, bits)), *rest = shifted(a, bits);
    const size_t n = divisor->length, places = rest->length > n ? rest->length - n : 0;
    const uint64_t top = divisor->digit[n - 1];
    natural *result = make(places);
    for (size_t at = places; at-- > 0;) {
        const uint64_t two = (uint64_t)rest->digit[at + n] << 32 | rest->digit[at + n - 1];
        uint64_t digit = two / top;
        digit = digit > UINT32_MAX ? UINT32_MAX : digit;
        for (int is_negative = take_off(rest, divisor, at, digit); is_negative; digit--) {
            put_back(rest, divisor, at);
            is_negative = rest->digit[at + n] != 0 && (int32_t)rest->digit[at + n] < 0;
        }
        result->digit[at] = (uint32_t)digit;
    }
    free(divisor);
    if (quotient) {
        *quotient = trim(result);
    } else {
        free(result);
    }
    for (size_t i = 0; i < rest->length; i++) {
        const uint64_t high = i + 1 < rest->length ? rest->digit[i + 1] : 0;
        rest->digit[i] = (uint32_t)((high << 32 | rest->digit[i]) >> bits);
    }
    return trim(rest);
}

static natural *greatest_common_divisor(const natural *a, const natural *b) {
    natural *x = copy(a), *y = copy(b);
    while (y->length > 0) {
        natural *rest = divide(x, y, NULL);
        free(x);
        x = y;
        y = rest;
    }
    free(y);
    return x;
}

/* x * x + c mod n; x is freed */
static natural *step(natural *x, const natural *c, const natural *n) {
    natural *square = multiply(x, x), *sum = add(square, c);
    natural *rest = divide(sum, n, NULL);
    free(x);
    free(square);
    free(sum);
    return rest;
}

static int is_one(const natural *n) {
    return n->length == 1 && n->digit[0] == 1;
}

/* A factor of n, perhaps n itself. */
static natural *find_factor(const natural *n, uint32_t constant) {
    enum { BETWEEN_DIVISORS = 64 };
    natural *c = small(constant), *y = small(2), *x = copy(y), *product = small(1), *factor = small(1);
    for (size_t power = 1, steps = 0; is_one(factor); steps++) {
        if (steps == power) {
            free(x);
            x = copy(y);
            power *= 2;
            steps = 0;
        }
        y = step(y, c, n);
        natural *apart = distance(x, y), *larger = multiply(product, apart);
        free(apart);
        free(product);
        product = divide(larger, n, NULL);
        free(larger);
        if (steps % BETWEEN_DIVISORS == BETWEEN_DIVISORS - 1 || steps + 1 == power) {
            free(factor);
            factor = greatest_common_divisor(n, product);
        }
    }
    free(c);
    free(x);
    free(y);
    free(product);
    return factor;
}

static natural *parse(const char *text) {
    natural *n = small(0), *ten = small(10);
    for (; *text >= '0' && *text <= '9'; text++) {
        natural *shifted_n = multiply(n, ten), *digit = small((uint32_t)(*text - '0'));
        free(n);
        n = add(shifted_n, digit);
        free(shifted_n);
        free(digit);
    }
    free(ten);
    return n;
}

static void print(const natural *n) {
    if (n->length == 0) {
        return;
    }
    natural *ten = small(10), *quotient, *digit = divide(n, ten, &quotient);
    print(quotient);
    putchar('0' + (int)(digit->length ? digit->digit[0] : 0));
    free(ten);
    free(quotient);
    free(digit);
}

/* Splits n in two and prints both; the smaller one first. */
static void split(const natural *n) {
    for (uint32_t constant = 1; constant < 20; constant++) {
        natural *factor = find_factor(n, constant), *other = NULL;
        free(divide(n, factor, &other));
        const int is_found = !is_one(other);
        if (is_found) {
            const int is_smaller = compare(factor, other) < 0;
            print(n);
            fputs(" = ", stdout);
            print(is_smaller ? factor : other);
            fputs(" * ", stdout);
            print(is_smaller ? other : factor);
            putchar('\n');
        }
        free(factor);
        free(other);
        if (is_found) {
            return;
        }
    }
    print(n);
    puts(" is a prime, as it seems");
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        natural *n = parse(argv[i]);
        if (n->length > 0 && !is_one(n)) {
            split(n);
        }
        free(n);
    }
    return 0;
}
