#include "digits_cnn.h"

void camera_read(float image[64]); /* your board: 8x8 pixels from 0 to 1, row by row */
void display_digit(int digit);

int main(void) {
    static float image[64], digit[10];
    for (;;) {
        camera_read(image);
        (void)digits_cnn_run(image, digit);
        int best = 0;
        for (int i = 1; i < 10; i++) best = digit[i] > digit[best] ? i : best;
        display_digit(best);
    }
}
